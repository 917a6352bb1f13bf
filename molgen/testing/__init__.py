"""Conformance checks for modalities and families, those of molgen and of plugins.

`check_modality` and `check_model` run all checks and raise one `Complaint` that lists the failed ones with
their fixes. `modality_checks` and `model_checks` return the single checks, for a parametrised test::

    @pytest.mark.parametrize("check", modality_checks(Mine(), records), ids=str)
    def test_conformance(check):
        check()
"""

from molgen.nn.check import assert_chiral, assert_close, assert_equivariant, random_rotation, tolerance
from molgen.testing.report import Check, Complaint
from molgen.testing.subject import Cell, Subject
from molgen.testing.suite import check_modality, check_model, modality_checks, model_checks

__all__ = [
    "Cell",
    "Check",
    "Complaint",
    "Subject",
    "assert_chiral",
    "assert_close",
    "assert_equivariant",
    "check_modality",
    "check_model",
    "modality_checks",
    "model_checks",
    "random_rotation",
    "tolerance",
]
