import base64
import json
import os
import subprocess
import tomllib
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from mcp_bridge import clients, texts
from mcp_bridge.clients import CLIENTS, Snippet, Unmergeable, configuration, hooks, merge, one_click, rules
from mcp_bridge.stdio import remote_of, repository_of
from mem0stack.lib.errors import InvalidArgument
from mem0stack.lib.remotes import project_key

URL = "http://127.0.0.1:8001/mcp"
KEY = "m0_" + "k" * 40
SHOP = "github.com/acme/shop"

JSON_CLIENTS = [client for client in CLIENTS if client != "codex"]
SERVERS = {"vscode": "servers", "zed": "context_servers"}


def parsed(snippet: Snippet, text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text) if snippet.format == "toml" else json.loads(text)
    return found


def server(snippet: Snippet) -> dict[str, Any]:
    key = "mcp_servers" if snippet.format == "toml" else SERVERS.get(snippet.client, "mcpServers")
    found: dict[str, Any] = parsed(snippet, snippet.text)[key]["memory"]
    return found


@pytest.mark.parametrize("project", [None, SHOP])
@pytest.mark.parametrize("bridge", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_each_configuration_parses_names_the_server_and_merges_the_same_again(
    client: str, bridge: bool, project: str | None
) -> None:
    snippet = configuration(client, URL, bridge=bridge, project=project)
    found = server(snippet)
    if bridge or client == "claude-desktop":
        assert all(Path(one).is_absolute() for one in (found["command"], found["args"][0]))
        assert found["args"][found["args"].index("--url") + 1] == URL
    else:
        assert URL in (found.get("url"), found.get("serverUrl"))
    assert (SHOP in snippet.text) == bool(project)
    assert merge(snippet.text, snippet) == snippet.text


@pytest.mark.parametrize("bridge", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_the_key_is_written_out_only_when_given(client: str, bridge: bool) -> None:
    assert "m0_" not in configuration(client, URL, bridge=bridge).text
    given_one = configuration(client, URL, bridge=bridge, key=KEY)
    assert given_one.text.count(KEY) == 1
    assert "in plain" in given_one.note


@pytest.mark.parametrize("client", CLIENTS)
def test_changing_between_the_bridge_and_http_leaves_nothing_of_the_other(client: str) -> None:
    direct, bridged = configuration(client, URL), configuration(client, URL, bridge=True)
    assert merge(merge(direct.text, bridged), direct) == direct.text


@pytest.mark.parametrize("client", JSON_CLIENTS)
def test_servers_and_settings_of_others_stay_byte_for_byte(client: str) -> None:
    snippet = configuration(client, URL)
    key = SERVERS.get(client, "mcpServers")
    mine = '{"a" : [1,2.50,  1e3, "\\u00e9é/\\/"],\n\t"b":{ }  }'
    before = f'{{\n    "theme":"dark",\n    "{key}": {{"other": {mine} }},\n    "last" :  null\n}}\n\n'
    after = merge(before, snippet)
    assert mine in after
    assert after.startswith('{\n    "theme":"dark",\n')
    assert '"last" :  null' in after
    assert '\n        "memory": {\n' in after
    expected = json.loads(before)
    expected[key]["memory"] = server(snippet)
    if client == "vscode":
        expected["inputs"] = json.loads(snippet.text)["inputs"]
    assert json.loads(after) == expected
    assert merge(after, snippet) == after


def test_an_older_entry_of_ours_is_replaced_and_nothing_else() -> None:
    old = '{"mcpServers": {"memory": {"url": "http://old/mcp"}, "z": 1}}'
    entry = server(configuration("cursor", URL))
    after = merge(old, configuration("cursor", URL))
    assert json.loads(after) == {"mcpServers": {"memory": entry, "z": 1}}
    assert after.endswith(', "z": 1}}')


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=5), VALUES, max_size=4),
    st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
    st.sampled_from([None, 1, 2, 4, "\t"]),
    st.sampled_from(JSON_CLIENTS),
)
def test_any_json_file_keeps_all_that_it_held(
    document: dict[str, Any], servers: dict[str, Any], indent: int | str | None, client: str
) -> None:
    key = SERVERS.get(client, "mcpServers")
    document[key] = servers
    snippet = configuration(client, URL)
    after = merge(json.dumps(document, indent=indent), snippet)
    found = json.loads(after)
    assert found[key].pop("memory") == server(snippet)
    servers.pop("memory", None)
    found.pop("inputs", None)
    assert found == document
    assert merge(after, snippet) == after


@pytest.mark.parametrize("client", JSON_CLIENTS)
@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, // why\n "b": 2}',
        '{"a": 1,}',
        "[]",
        '{"mcpServers": [], "servers": [], "context_servers": []}',
        '{"x": {"a": 1, "a": 2}}',
        "not json",
    ],
)
def test_what_is_not_plain_json_is_refused_with_what_to_paste(client: str, text: str) -> None:
    snippet = configuration(client, URL, key=KEY)
    with pytest.raises(Unmergeable, match="by hand") as caught:
        merge(text, snippet)
    assert URL in caught.value.detail
    assert KEY not in caught.value.detail


def test_line_ends_and_byte_order_mark_of_windows_stay() -> None:
    before = '\ufeff{\r\n  "a": 1\r\n}\r\n'
    after = merge(before, configuration("cursor", URL))
    assert after.startswith('\ufeff{\r\n  "a": 1,\r\n  "mcpServers": {\r\n')
    assert after.count("\n") == after.count("\r\n")


CODEX = '# mine\nmodel = "o"\n\n[mcp_servers.other] # first\ncommand = "x"\n\n# last\n[tui]\ntheme = "dark"'


def test_codex_keeps_every_other_table_and_comment() -> None:
    snippet = configuration("codex", URL)
    after = merge(CODEX, snippet)
    assert after == f"{CODEX}\n\n{snippet.text}"
    assert merge(after, snippet) == after


def test_codex_replaces_its_own_table_in_its_place() -> None:
    ours = '[mcp_servers."memory"]\nurl = "http://old/mcp"\nenabled = true\n'
    tools = '\n# mine\n[mcp_servers.memory.tools.search]\napproval_mode = "approve"\n'
    snippet = configuration("codex", URL)
    assert merge(f"a = 1\n\n{ours}{tools}", snippet) == f"a = 1\n\n{snippet.text}{tools}"


@pytest.mark.parametrize(
    "text",
    [
        "a = ",
        '[mcp_servers]\nmemory = {url = "x"}\n',
        'mcp_servers.memory.url = "x"\n',
        'a = """\n[mcp_servers.memory]\n"""\nb = 1\n',
    ],
)
def test_codex_refuses_a_file_that_it_could_spoil(text: str) -> None:
    with pytest.raises(Unmergeable, match="by hand"):
        merge(text, configuration("codex", URL))


@pytest.mark.parametrize("client", CLIENTS)
def test_rules_join_what_is_written_and_renew_themselves(client: str) -> None:
    snippet = rules(client)
    after = merge("# Our house\n\nUse tabs.", snippet)
    assert after == f"# Our house\n\nUse tabs.\n\n{texts.section()}"
    older = after.replace("Recall:", "Look up:") + "\nMore of ours.\n"
    assert merge(older, snippet) == f"{after}\nMore of ours.\n"
    assert merge(snippet.text, snippet) == snippet.text
    with pytest.raises(Unmergeable):
        merge(f"{texts.SECTION_BEGINS}\ncut", snippet)


@pytest.mark.parametrize("client", clients.WITH_HOOKS)
def test_hooks_join_those_of_others_and_replace_only_our_own(client: str) -> None:
    snippet = hooks(client, URL, program=("/usr/bin/python3", "/a b/mem0_bridge.py"))
    start = "sessionStart" if client == "cursor" else "SessionStart"
    theirs = {"command": "./lint.sh", "timeout": 3}
    before: dict[str, Any] = {"version": 7, "hooks": {start: [{"hooks": [theirs]}], "beforeRead": [theirs]}}
    after = json.loads(merge(json.dumps(before), snippet))
    assert after["version"] == 7
    assert after["hooks"]["beforeRead"] == [theirs]
    assert after["hooks"][start] == [{"hooks": [theirs]}, *json.loads(snippet.text)["hooks"][start]]
    moved = hooks(client, "http://elsewhere/mcp")
    again = json.loads(merge(json.dumps(after), moved))
    assert again["hooks"][start] == [{"hooks": [theirs]}, *json.loads(moved.text)["hooks"][start]]


def test_a_hook_of_ours_in_a_group_with_others_leaves_them_there() -> None:
    theirs = {"type": "command", "command": "./hello.sh"}
    ours = json.loads(hooks("claude-code", "http://old/mcp").text)["hooks"]["SessionStart"][0]["hooks"][0]
    before = {"hooks": {"SessionStart": [{"matcher": "startup", "hooks": [ours, theirs]}]}}
    after = json.loads(merge(json.dumps(before), hooks("claude-code", URL)))
    group = after["hooks"]["SessionStart"]
    assert len(group) == 1
    assert group[0]["matcher"] == "startup"
    assert URL in group[0]["hooks"][0]["command"]
    assert group[0]["hooks"][1] == theirs


def test_the_one_click_link_holds_the_server_and_no_key() -> None:
    link = urlsplit(one_click(URL))
    assert (link.scheme, link.netloc, link.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    query = parse_qs(link.query, strict_parsing=True)
    assert query["name"] == ["memory"]
    assert json.loads(base64.b64decode(query["config"][0])) == server(configuration("cursor", URL))


@pytest.mark.parametrize("url", ["", "127.0.0.1:8001", "ftp://x/mcp", "http://", "http://a:b@x/mcp", "http://x/m cp"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="address"):
        configuration("cursor", url)


def test_an_unknown_client_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="windsurf"):
        configuration("emacs", URL)


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and an empty folder in it to stand in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr("django.conf.settings.MCP_URL", "")
    for name in ("MEM0_API_KEY", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path


def git(*words: str, cwd: Path) -> None:
    identity = ["-c", "user.name=Robin", "-c", "user.email=robin@example.com"]
    subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True)  # noqa: S607  anybody's git


@pytest.fixture
def shop(home: Path) -> Path:
    """A clone whose remote has a password in it."""
    folder = home / "shop"
    git("init", "-q", cwd=folder)
    git("remote", "add", "upstream", "https://github.com/else/where", cwd=folder)
    git("remote", "add", "origin", "https://robin:s3cret@github.com/acme/shop.git", cwd=folder)
    return folder


def run(client: str, *words: str) -> str:
    out, err = StringIO(), StringIO()
    call_command("mcp_config", "--client", client, *words, stdout=out, stderr=err)
    return out.getvalue()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_command_prints_and_touches_nothing(client: str, home: Path) -> None:
    assert run(client, "--rules").startswith(configuration(client, URL).text)
    assert [one.name for one in home.rglob("*")] == ["shop"]


@pytest.mark.parametrize("client", CLIENTS)
def test_writing_twice_is_as_once(client: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEM0_API_KEY", KEY)
    words = ("--write", "--with-key", "--url", "https://memory.example.com/mcp")
    assert "made" in run(client, *words)
    (file,) = (one for one in home.rglob("*") if one.is_file())
    once = file.read_bytes()
    assert b"https://memory.example.com/mcp" in once
    assert file.stat().st_mode & 0o777 == 0o600
    assert "says it already" in run(client, *words)
    assert file.read_bytes() == once
    assert [one for one in home.rglob("*") if one.is_file()] == [file]


def test_writing_keeps_others_the_mode_a_link_and_a_backup(home: Path) -> None:
    kept = home / "dotfiles" / "cursor.json"
    kept.parent.mkdir()
    kept.write_text('{"mcpServers": {"other": {"url": "x"}}}')
    kept.chmod(0o640)
    (home / ".cursor").mkdir()
    link = home / ".cursor" / "mcp.json"
    link.symlink_to(kept)
    told = run("cursor", "--write")
    assert link.is_symlink()
    assert set(json.loads(kept.read_text())["mcpServers"]) == {"other", "memory"}
    assert kept.stat().st_mode & 0o777 == 0o640
    (backup,) = kept.parent.glob("cursor.json.bak-*")
    assert backup.read_text() == '{"mcpServers": {"other": {"url": "x"}}}'
    assert backup.name in told
    run("cursor", "--write", "--url", "http://elsewhere/mcp")
    assert len(list(kept.parent.iterdir())) == 3


@pytest.mark.parametrize("broken", [b'{"a": 1, // comment\n}', b'{"a": "\xff"}'])
def test_a_file_that_cannot_be_merged_is_untouched_and_so_are_the_others(broken: bytes, shop: Path) -> None:
    (shop / ".cursor").mkdir()
    file = shop / ".cursor" / "hooks.json"
    file.write_bytes(broken)
    with pytest.raises(CommandError, match="left as it is"):
        run("cursor", "--write", "--rules", "--hooks")
    assert file.read_bytes() == broken
    assert [one.name for one in file.parent.iterdir()] == ["hooks.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_no_files_is_a_sentence(home: Path) -> None:
    (home / ".cursor").mkdir(mode=0o500)
    with pytest.raises(CommandError, match="left as it is"):
        run("cursor", "--write")


@pytest.mark.parametrize("client", clients.WANT_THE_KEY)
def test_a_client_that_reads_no_variables_gets_no_placeholder_over_its_key(client: str, home: Path) -> None:
    with pytest.raises(CommandError, match="--with-key"):
        run(client, "--write")
    with pytest.raises(CommandError, match="not set"):
        run(client, "--write", "--with-key")
    assert [one.name for one in home.rglob("*")] == ["shop"]


def test_in_a_repository_the_project_is_named_by_its_remote(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "src").mkdir()
    monkeypatch.chdir(shop / "src")
    run("cursor", "--write", "--rules", "--hooks")
    entry = json.loads((shop / ".cursor" / "mcp.json").read_text())["mcpServers"]["memory"]
    assert entry["headers"]["X-Mem0-Project"] == SHOP
    assert (shop / ".cursor" / "rules" / "memory.mdc").read_text() == texts.cursor_rule()
    assert SHOP in (shop / ".cursor" / "hooks.json").read_text()
    for client in CLIENTS:
        printed = run(client)
        assert "s3cret" not in printed
        assert (SHOP in printed) == (client in clients.WITH_PROJECT_FILE), "a file in the home serves every project"
    assert "X-Mem0-Project" in run("codex", "--project", "git@github.com:acme/shop.git")


def test_worktrees_submodules_and_clones_without_a_remote(shop: Path, home: Path) -> None:
    git("commit", "-q", "--allow-empty", "-m", "Begin", cwd=shop)
    git("worktree", "add", "-q", str(home / "tree"), cwd=shop)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(shop), "part", cwd=home / "tree")
    git("remote", "set-url", "origin", "git@github.com:acme/part.git", cwd=home / "tree" / "part")
    assert project_key(remote_of(str(home / "tree"))) == SHOP
    assert project_key(remote_of(str(home / "tree" / "part"))) == "github.com/acme/part"
    git("init", "-q", "bare", cwd=home)
    assert repository_of(str(home / "bare" / "nothing")) == str(home / "bare")
    assert remote_of(str(home / "bare")) == ""
    git("remote", "add", "upstream", "git@github.com:acme/first.git", cwd=home / "bare")
    assert remote_of(str(home / "bare")) == "git@github.com:acme/first.git"


def test_the_address_comes_from_the_environment_unless_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.MCP_URL", "http://10.0.0.5:9001/mcp")
    assert '"http://10.0.0.5:9001/mcp"' in run("zed")
    assert '"http://127.0.0.1:7/mcp"' in run("zed", "--url", "http://127.0.0.1:7/mcp")


@pytest.mark.parametrize("client", sorted(set(CLIENTS) - set(clients.WITH_HOOKS)))
def test_hooks_of_a_client_without_them_are_refused(client: str, home: Path) -> None:
    with pytest.raises(CommandError, match="no hooks"):
        run(client, "--hooks")
