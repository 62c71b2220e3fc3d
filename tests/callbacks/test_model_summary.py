"""What the model summary says."""

import pytest
import torch
from leyden import Module, Trainer
from leyden.testing import TinyModule
from leyden_callbacks import ModelSummary, RichModelSummary, summarize
from leyden_callbacks.model_summary import readable
from torch import nn


class Net(TinyModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)


def test_the_layers_with_their_parameters_and_the_totals():
    assert summarize(Net()) == (
        "Name  | Type                  | Params | Mode\n"
        "----------------------------------------------\n"
        "layer | Sequential            |    178 | train\n"
        "      | parameters of its own |      3 |\n"
        "----------------------------------------------\n"
        "178       trainable parameters\n"
        "3         non-trainable parameters\n"
        "181       parameters in all\n"
        "0.001     MB of parameters"
    )


def test_a_greater_depth_shows_the_layers_inside():
    rows = summarize(Net(), max_depth=2).splitlines()[2:7]
    assert rows == [
        "layer   | Sequential            |    178 | train",
        "layer.0 | Linear                |    144 | train",
        "layer.1 | ReLU                  |      0 | train",
        "layer.2 | Linear                |     34 | train",
        "        | parameters of its own |      3 |",
    ]


def test_all_levels_are_shown_at_a_depth_of_minus_one():
    deep = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(2, 2))))
    assert [row.split()[0] for row in summarize(deep, max_depth=-1).splitlines()[2:5]] == ["0", "0.0", "0.0.0"]


def test_a_depth_of_zero_shows_the_totals_only():
    assert summarize(Net(), max_depth=0).splitlines()[0] == "178       trainable parameters"


def test_an_example_input_shows_what_goes_in_and_out_of_each_layer():
    net = Net()
    net.example_input_array = torch.zeros(4, 8)
    net.layer[1].eval()
    lines = summarize(net, max_depth=2).splitlines()
    assert lines[:6] == [
        "Name    | Type                  | Params | Mode  | FLOPs | In sizes | Out sizes",
        "-------------------------------------------------------------------------------",
        "layer   | Sequential            |    178 | train | 1.3 K | [4, 8]   | [4, 2]",
        "layer.0 | Linear                |    144 | train | 1.0 K | [4, 8]   | [4, 16]",
        "layer.1 | ReLU                  |      0 | eval  |     0 | [4, 16]  | [4, 16]",
        "layer.2 | Linear                |     34 | train |   256 | [4, 16]  | [4, 2]",
    ]
    assert lines[-1] == "1.3 K     FLOPs of forward on the example"  # 2 * 4 * (8 * 16 + 16 * 2)


@pytest.mark.parametrize("example", [(torch.zeros(1, 3), torch.zeros(1, 3)), {"a": torch.zeros(1, 3), "b": torch.zeros(1, 3)}])
def test_an_example_input_may_be_several_arguments(example):
    class Two(Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Bilinear(3, 3, 2)
            self.example_input_array = example

        def forward(self, a, b):
            return {"out": self.layer(a, b)}

    assert summarize(Two()).splitlines()[2] == "layer | Bilinear |     20 | train |     0 | [[1, 3], [1, 3]] | [1, 2]"


def test_the_example_leaves_modes_statistics_and_random_states_as_they_were():
    class Noisy(Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.drop = nn.Dropout()
            self.norm.eval()
            self.example_input_array = torch.ones(2, 3)

        def forward(self, x):
            return self.drop(self.norm(x + torch.randn_like(x)))

    module = Noisy()
    state, modes = torch.get_rng_state(), [child.training for child in module.modules()]
    summarize(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert [child.training for child in module.modules()] == modes == [True, False, True]
    assert module.norm.num_batches_tracked == 0
    assert not module.norm._forward_hooks


def test_an_example_that_does_not_fit_says_where_it_was_used():
    net = Net()
    net.example_input_array = torch.zeros(4, 7)
    with pytest.raises(RuntimeError) as error:
        summarize(net)
    assert error.value.__notes__ == ["while Net was called with its example_input_array for the model summary"]


def test_lazy_layers_are_counted_as_far_as_they_are_known():
    lazy = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(4))
    lines = summarize(lazy).splitlines()
    assert [line.split(" | ")[2].strip() for line in lines[2:4]] == ["6", "lazy"]
    assert lines[-1] == "2         lazy parameters, not counted before their first use"


def test_a_shared_parameter_counts_once_in_the_totals():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    lines = summarize(nn.Sequential(first, second)).splitlines()
    assert [line.split(" | ")[2].strip() for line in lines[2:4]] == ["6", "6"]
    assert lines[-2] == "8         parameters in all"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0 K"), (1234, "1.2 K"), (65_000, "65.0 K"), (999_600, "1.0 M"), (123_456_789, "123 M")],
)
def test_counts_are_readable(count, text):
    assert readable(count) == text


def test_it_is_printed_once_on_standard_error_when_a_fit_starts(fit, capsys):
    trainer = fit(ModelSummary())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(summarize(trainer.module) + "\nleyden: trains 2 epochs of ")
    trainer.test(verbose=False)
    assert capsys.readouterr().err == ""


def test_its_example_runs_in_the_precision_of_the_run(fit, capsys):
    module = TinyModule()
    module.example_input_array = torch.zeros(4, 8)
    fit(ModelSummary(), module=module, precision="bf16-true")
    assert "|   128 | [4, 8]   | [4, 2]" in capsys.readouterr().err


def test_a_wrong_depth_is_refused():
    with pytest.raises(ValueError) as error:  # the whole message is compared
        ModelSummary(max_depth=-2)
    assert str(error.value) == "ModelSummary(max_depth=-2): expected an int of at least -1, got int -2"


def test_it_is_registered_as_model_summary():
    trainer = Trainer(callbacks=[{"model_summary": {"max_depth": 3}}], logger=False)
    assert next(c for c in trainer.callbacks if isinstance(c, ModelSummary)).max_depth == 3


def test_before_the_first_step_a_fit_says_what_it_will_do_when(tmp_path, capsys):
    def run(**options):
        Trainer(
            max_epochs=1,
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            **options,
        ).fit(TinyModule())
        return capsys.readouterr().err

    said = run().splitlines()
    assert said[-3:] == [
        "leyden: trains 1 epoch of 4 batches, 4 optimizer steps in all",
        "leyden: validates at the end of each epoch, 2 batches",
        "leyden: logs every 50 optimizer steps and at the end of each epoch, to the history alone",
    ]
    assert run(enable_model_summary=False) == ""


def test_a_table_of_rich(fit, capsys):
    module = Net()
    module.example_input_array = torch.zeros(4, 8)
    fit(ModelSummary(style="rich"), module=module)
    lines = capsys.readouterr().err.splitlines()
    [row] = [line for line in lines if "Sequential" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "layer", "Sequential", "178", "train", "1.3 K", "[4, 8]", "[4, 2]"
    ]  # fmt: skip
    assert "178       trainable parameters" in lines
    fit(RichModelSummary(max_depth=0), module=Net())
    assert capsys.readouterr().err.splitlines()[0] == "178       trainable parameters"


def test_auto_is_plain_where_there_is_no_terminal(fit, capsys):
    fit({"model_summary": {"style": "auto"}}, enable_model_summary=None)
    assert "layer | Linear" in capsys.readouterr().err


def test_a_style_that_there_is_not_and_rich_that_is_not_there(monkeypatch, refusal):
    assert refusal(ValueError, ModelSummary, style="ritch") == (
        "ModelSummary(style='ritch'): expected 'plain', 'rich' or 'auto'; did you mean 'rich'?"
    )
    monkeypatch.setattr("leyden_callbacks.model_summary.find_spec", lambda name: None)
    assert refusal(ImportError, RichModelSummary) == (
        "RichModelSummary(style='rich') needs rich, which is not installed; run: pip install \"leyden-callbacks[rich]\""
    )


def test_two_summaries(fit, refusal):
    assert refusal(ValueError, fit, ModelSummary(), RichModelSummary()) == (
        "callbacks has 2 model summaries, ModelSummary and RichModelSummary; they would tear each other: give one"
    )
