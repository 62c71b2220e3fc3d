"""What core relies on in a profiler."""

from __future__ import annotations

from pathlib import Path

from leyden.profiler import Profiler
from leyden.testing.contracts.runs import (
    Breakdown,
    FailingModule,
    difference,
    introduced,
    plainly_trained,
    quiet,
    refusal,
    tiny,
    weights,
)


class ProfilerContract:
    """Subclass it as ``class TestAcme(ProfilerContract)`` and return a profiler from :meth:`profiler`."""

    def profiler(self) -> Profiler:
        """A new profiler."""
        raise NotImplementedError(f"{type(self).__name__}.profiler must return the profiler to test")

    def test_says_who_it_is(self) -> None:
        profiler = self.profiler()
        introduced(profiler, Profiler)

    def test_a_wrapped_function_does_what_it_did(self) -> None:
        profiler = self.profiler()
        wrapped = profiler.wrap(lambda a, *, b: (a, b), "an action")
        assert wrapped(1, b=2) == (1, 2), f"a wrapped function returned {wrapped(1, b=2)!r}, expected (1, 2)"

        def fail() -> None:
            raise Breakdown("fails")

        refusal(Breakdown, profiler.wrap(fail, "a failing action"))
        assert wrapped(3, b=4) == (3, 4), "after a failure a wrapped function no longer works"

    def test_training_goes_as_without_it(self, tmp_path: Path) -> None:
        module = tiny()
        quiet(tmp_path, profiler=self.profiler()).fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path)))
        assert apart == 0, f"with the profiler the weights end {apart} from those without it"

    def test_summary_is_text_before_and_after_a_run(self, tmp_path: Path) -> None:
        profiler = self.profiler()
        before = profiler.summary()
        assert isinstance(before, str), f"summary() returned {before!r} before anything was measured"
        quiet(tmp_path, profiler=profiler).fit(tiny())
        after = profiler.summary()
        assert isinstance(after, str), f"summary() returned {after!r}"
        assert not after or "TinyModule.training_step" in after, f"summary() does not name TinyModule.training_step: {after}"

    def test_serves_several_runs_and_survives_a_failed_one(self, tmp_path: Path) -> None:
        trainer = quiet(tmp_path, profiler=self.profiler())
        refusal(Breakdown, trainer.fit, tiny(FailingModule))
        module = tiny()
        trainer.fit(module)
        trainer.validate(module, verbose=False)
        trainer.profiler.summary()
