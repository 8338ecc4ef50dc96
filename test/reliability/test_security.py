"""Nothing in the package runs what a file says; such files are refused elsewhere in the tests."""

import ast

FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "marshal.loads", "shelve.open", "joblib.load", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "torch.hub.load", "torch.jit.load",
}  # fmt: skip
UNPACKING = {"extract", "extractall"}  # of archives: read, never unpacked


def faults_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in FORBIDDEN or name.rpartition(".")[2] in UNPACKING:
            yield name
        if words.get("shell") == "True" or words.get("allow_pickle") == "True":
            yield name
        if name == "torch.load" and words.get("weights_only") != "True":
            yield name


def test_no_call_runs_what_a_file_says(root):
    files = sorted((root / "aopsam_ros").rglob("*.py"))
    assert len(files) > 100
    assert {file.name: found for file in files if (found := list(faults_of(file)))} == {}
