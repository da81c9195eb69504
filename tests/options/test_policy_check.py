"""`--policy-check`: what a policy would decide, as words and exit code, without anything else running."""

import pytest


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ("GET /api/v1/pods", 0, "allowed by default: list pods\n"),
        ("GET /api/v1/secrets", 1, "refused by rule no-secrets/secrets: list secrets\n"),
        ("GET /api/v1//pods", 1, "refused, not-canonical: the target has an empty segment (//)\n"),
    ],
)
def test_a_check_says_what_and_why(argotun, tmp_path, request_, code, words):
    (tmp_path / "policy.yaml").write_text("presets: no-secrets\n")
    done = argotun(["--policy-check", "DIR/policy.yaml", request_])
    assert (done.code, done.out, done.err, done.config) == (code, words, "", None)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["DIR/none", "GET /api"],
            "--policy: 'DIR/none' is not valid: expected a readable file (No such file",
        ),
        (["FILE", "GET /api"], "--policy FILE: 'content' is not valid: expected a mapping of presets, rules"),
        (
            ["DIR/policy.yaml", "api"],
            "--policy-check: 'api' is not valid: expected a request such as 'GET /api",
        ),
        (["DIR/policy.yaml"], "--policy-check is not set: expected a policy file and a request"),
    ],
)
def test_a_mistake_is_a_sentence_and_exit_code_2(argotun, tmp_path, file, argv, sentence):
    (tmp_path / "policy.yaml").write_text("presets: full\n")
    done = argotun(["--policy-check", *argv])
    sentence = sentence.replace("DIR", str(tmp_path)).replace("FILE", file)
    assert (done.code, done.out, done.config) == (2, "", None)
    assert done.err.startswith(f"argotun: {sentence}")
