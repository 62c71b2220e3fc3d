"""What leyden.testing costs those who do not test."""

from __future__ import annotations

import subprocess
import sys


def test_leyden_does_not_import_its_testing_and_that_does_not_import_pytest():
    script = """
import sys
import leyden
assert "leyden.testing" not in sys.modules
import leyden.testing
assert "pytest" not in sys.modules and "_pytest" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
