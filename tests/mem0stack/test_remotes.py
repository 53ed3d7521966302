import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mem0stack.lib.remotes import project_key

SHOP = [
    "https://github.com/acme/shop",
    "https://github.com/acme/shop.git",
    "https://github.com/acme/shop/",
    "https://github.com/acme/shop.git/",
    "https://GitHub.com/acme/shop",
    "http://github.com:80/acme/shop.git",
    "https://robin@github.com/acme/shop",
    "https://robin:s3cret@github.com/acme/shop.git",
    "https://x-access-token:ghp_abc@github.com/acme/shop",
    "https://robin:p@ss/w#rd?@github.com/acme/shop",
    "https://robin:12/34@github.com/acme/shop",
    "https://github.com/acme/shop?tab=readme#top",
    "ssh://git@github.com/acme/shop.git",
    "ssh://git@github.com:22/acme/shop.git",
    "ssh://git@github.com:/acme/shop",
    "git+ssh://git@github.com/acme/shop",
    "git://github.com/acme/shop.git",
    "git@github.com:acme/shop.git",
    "git@GITHUB.com:/acme/shop.git",
    "github.com:acme/shop.git",
    "github.com/acme/shop",
    "github.com/acme/shop.git",
    "GitHub.com/acme/shop/",
    "robin:s3cret@github.com/acme/shop",
    "  https://github.com//acme/shop \n",
]


@pytest.mark.parametrize("spelling", SHOP)
def test_every_spelling_of_a_remote_is_the_same_project(spelling: str) -> None:
    assert project_key(spelling) == "github.com/acme/shop"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("git@gitlab.example.com:Group/Sub/Repo.git", "gitlab.example.com/Group/Sub/Repo"),
        ("https://gitlab.example.com/group/sub/deep/repo", "gitlab.example.com/group/sub/deep/repo"),
        ("ssh://git@[2001:DB8::1]:2222/o/r.git", "[2001:db8::1]/o/r"),
        ("git@localhost:shop.git", "localhost/shop"),
        ("ssh://git@git.sr.ht/~robin/shop", "git.sr.ht/~robin/shop"),
        ("/home/robin/work/shop", "shop"),
        ("/home/robin/work/shop/", "shop"),
        ("/home/robin/My Shop", "My Shop"),
        ("/srv/git/shop.git", "shop"),
        ("/home/robin/shop/.git", "shop"),
        ("~/work/shop", "shop"),
        ("../shop", "shop"),
        (r"C:\Users\Robin\work\shop", "shop"),
        (r"c:\work\shop" + "\\", "shop"),
        ("C:/work/shop/", "shop"),
        (r"\\server\share\shop", "shop"),
        ("file:///home/robin/my%20shop/", "my shop"),
        ("file:///C:/Users/Robin/shop", "shop"),
        ("file:///c%3A/Users/Robin/sh%C3%B6p", "shöp"),
        ("vscode-remote://ssh-remote%2Bbox/home/robin/shop", "shop"),
        ("", ""),
        (" \n", ""),
        ("/", ""),
        ("C:\\", ""),
        ("C:", ""),
        ("~", ""),
        (".", ""),
        ("/work/*", "work"),
        ("${workspaceFolder}", ""),
        (" ${workspaceFolder}/api ", ""),
        ("${env:PROJECT}", ""),
        ("*", "*"),
        ("shop", "shop"),
        (" shop ", "shop"),
        ("Shop.js", "Shop.js"),
        ("personal", "personal"),
        ("alice/shop", "alice/shop"),
        ("alice.b/shop", "alice.b/shop"),
        ("a:b", "a:b"),
        ("note: this", "note: this"),
        ("billing (old)", "billing (old)"),
        ("origin https://robin:s3cret@github.com/acme/shop (push)", "origin https://github.com/acme/shop (push)"),
        ("https://robin:s3cret@github.com/acme/shop (push)", "https://github.com/acme/shop (push)"),
    ],
)
def test_what_else_names_a_project(given: str, key: str) -> None:
    assert project_key(given) == key


_ANYTHING = st.text(max_size=60) | st.text(alphabet="aA.:/\\@~%?#$ {}*[]git-", max_size=40)
_WORD = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
_HOST = st.lists(_WORD, min_size=2, max_size=3).map(".".join)


@given(_ANYTHING)
@example("/x/${y}")
@example("file:///x/C%3A%5Cy")
@example("a@b:c@d:e/f")
def test_the_key_of_a_key_is_itself(given: str) -> None:
    key = project_key(given)
    assert project_key(key) == key
    assert key == key.strip()


@given(_ANYTHING)
def test_only_an_asterisk_means_everything(given: str) -> None:
    assert (project_key(given) == "*") == (given.strip() == "*")


@given(
    scheme=st.sampled_from(["https", "http", "ssh", "git+https"]),
    user=_WORD,
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    host=_HOST,
    path=st.lists(_WORD, min_size=1, max_size=4),
)
def test_no_password_is_kept(scheme: str, user: str, secret: str, host: str, path: list[str]) -> None:
    remote = "/".join([host, *path])
    assert project_key(f"{scheme}://{user}:{secret}@{remote}.git") == project_key(f"{scheme}://{remote}")


@given(host=_HOST, path=st.lists(_WORD, min_size=2, max_size=4), port=st.integers(1, 65_535))
def test_spellings_of_any_remote_agree(host: str, path: list[str], port: int) -> None:
    joined = "/".join(path)
    spellings = [
        f"https://{host}/{joined}",
        f"HTTPS://{host.upper()}:{port}/{joined}.git",
        f"ssh://git@{host}:{port}/{joined}/",
        f"git@{host}:{joined}.git",
        f"{host}/{joined}",
    ]
    assert {project_key(one) for one in spellings} == {f"{host}/{joined}"}


@given(st.lists(_WORD, min_size=1, max_size=5))
def test_a_folder_has_one_name_on_every_system(folders: list[str]) -> None:
    paths = ["/" + "/".join(folders), "C:\\" + "\\".join(folders) + "\\", "file:///" + "/".join(folders)]
    assert {project_key(one) for one in paths} == {folders[-1]}
