"""The command that trains studies."""

import pytest

from lsh_jax.cli.study import train_studies
from lsh_jax.study.presets import STUDIES


def run(tmp_path, *arguments):
    cache = f"--cache-dir={tmp_path / 'cache'}"
    return train_studies(STUDIES, tmp_path / "out", "study.py", [*arguments, cache])


def test_a_dry_run_says_what_is_missing_and_writes_no_table(tmp_path, capsys):
    assert run(tmp_path, "rhn-53", "--dry-run") == 0
    assert capsys.readouterr().out == "rhn-53: 34 of 34 networks to train\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["lstm-68"], "`studies` must be one of"),
        (["rhn-53", "--part=3/2"], "--part must be i/n with 1 <= i <= n, got '3/2'"),
        (["rhn-53", "--data-dir=no/such/folder"], "no/such/folder"),
    ],
)
def test_bad_input_gets_one_clear_message_and_status_2(wrong, message, tmp_path, capsys):
    assert run(tmp_path, *wrong) == 2
    error = capsys.readouterr().err
    assert message.replace("`studies`", "") in error.replace("`studies`", "").replace(
        "--studies", ""
    )
    assert error.count("\n") == 1
