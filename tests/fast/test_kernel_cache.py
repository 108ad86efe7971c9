"""The folder of compiled kernels in a hostile place, and compilers that fail in every way."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spikeattn.errors import SpikeattnError
from spikeattn.fast import c_compiler, kernel_cache, native

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
STRANGER = 54321  # an id that nobody has


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as it is kept; compiled once for this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        native.build.cache_clear()
        made = native.build()
    native.build.cache_clear()
    assert made.library is not None, made.reason
    return made.library


@pytest.fixture
def library(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it in a cache folder of this test alone."""
    folder = tmp_path / "spikeattn"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.build.cache_clear()
    yield Path(shutil.copy(whole, folder))
    native.build.cache_clear()


def key_of(library: Path) -> str:
    return library.name.split("-")[1]


def test_a_library_is_found_again_and_nothing_is_compiled(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_compiler, "compile_library", lambda *_: pytest.fail("compiled again"))
    assert native.build().library == library
    assert native.mean(torch.ones(1, 1, 8, 2, 2)).sum().item() == 8


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "foreign", "empty", "open to others", "a link"])
def test_a_damaged_library_is_removed_and_never_loaded(library: Path, damage: str) -> None:
    content = library.read_bytes()
    if damage == "open to others":
        library.chmod(0o722)
    elif damage == "a link":
        library.rename(library.with_name("other.so"))
        library.symlink_to("other.so")
    else:
        changed = {"truncated": content[:5000], "zeroed": content[:4096] + bytes(len(content) - 4096)}
        library.write_bytes(changed.get(damage, b"" if damage == "empty" else b"\x7fELF of somebody else"))
    assert kernel_cache.find_library(library.parent, key_of(library)) is None
    assert not os.path.lexists(library)


def test_a_truncated_library_is_made_anew(library: Path) -> None:
    os.truncate(library, 5000)
    made = native.build()
    assert made.library is not None and made.library.stat().st_size > 5000, made.reason
    assert native.mean(torch.ones(1, 1, 8, 2, 2)).sum().item() == 8


@by_root
def test_a_library_of_another_user_is_not_loaded_whatever_its_name(library: Path) -> None:
    os.chown(library, STRANGER, STRANGER)
    assert kernel_cache.find_library(library.parent, key_of(library)) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("place", ["", "spikeattn"])
def test_a_folder_open_to_others_is_refused(library: Path, tmp_path: Path, place: str, mode: int) -> None:
    (tmp_path / place).chmod(mode)
    with pytest.raises(kernel_cache.UnusableFolder, match=f"written to by others .mode 0{mode:o}"):
        kernel_cache.private_folder(tmp_path / "spikeattn")


def test_a_sticky_folder_is_good_for_what_is_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert kernel_cache.private_folder(tmp_path / "spikeattn") == Path(os.path.realpath(tmp_path / "spikeattn"))
    assert (tmp_path / "spikeattn").stat().st_mode & 0o777 == 0o700
    with pytest.raises(kernel_cache.UnusableFolder, match="mode 1777"):
        kernel_cache.private_folder(tmp_path)


@by_root
def test_a_folder_of_somebody_else_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "planted" / "spikeattn").mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "planted", STRANGER, STRANGER)
    for path in (tmp_path / "planted", tmp_path / "planted" / "spikeattn"):
        with pytest.raises(kernel_cache.UnusableFolder, match=f"another user .id {STRANGER}|others .mode 1777"):
            kernel_cache.private_folder(path)


def test_a_link_leads_to_what_is_judged(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(kernel_cache.UnusableFolder, match="open can be written to by others"):
        kernel_cache.private_folder(tmp_path / "link" / "spikeattn")


def test_a_loose_umask_leaves_no_folder_open(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kernel_cache.private_folder(tmp_path / "a" / "b")
        library = kernel_cache.keep_library(tmp_path / "a" / "b", "key", lambda path: path.touch(0o777) or None)
    finally:
        os.umask(before)
    assert kernel_cache.find_library(tmp_path / "a" / "b", "key") == library


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can mount, on Linux")
def test_a_folder_without_programs_is_refused(tmp_path: Path) -> None:
    code = f"""
import runpy, subprocess, sys
from pathlib import Path
if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "none", {str(tmp_path)!r}]).returncode:
    sys.exit(77)
cache = runpy.run_path({kernel_cache.__file__!r})
try:
    cache["private_folder"](Path({str(tmp_path)!r}) / "spikeattn")
except cache["UnusableFolder"] as error:
    print(error)
"""
    command = ["unshare", "-m", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert "mounted noexec" in done.stdout, done.stderr


def test_where_no_folder_is_good_one_sentence_says_why(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.parent.chmod(0o777)
    monkeypatch.setattr(kernel_cache, "cache_folders", lambda: iter([library.parent]))
    made = native.build()
    assert made.library is None and "written to by others" in made.reason and "\n" not in made.reason
    with pytest.raises(SpikeattnError, match="written to by others .* use plain=True"):
        native.mean(torch.ones(1, 1, 8, 2, 2))


def test_no_home_and_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    for given in (None, "", "not/absolute"):
        if given is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert [folder.name for folder in kernel_cache.cache_folders()] == [f"spikeattn-{os.geteuid()}"]


def test_a_home_that_is_a_file_leaves_the_other_folder(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    (library.parent / "home").touch()
    folders = [library.parent / "home" / ".cache", library.parent]  # no root may write into a file
    monkeypatch.setattr(kernel_cache, "cache_folders", lambda: iter(folders))
    assert native.build().library == library


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(b"#!/bin/sh\n" + text.encode("latin-1"))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit 0", "wrote no library"),
        ("printf '\\377\\376 bad' >&2; exit 3", r"^\\xff\\xfe bad$"),
        ("exit 4", "it ended with 4"),
        ('for last; do :; done; echo rubbish > "$last"', "does not run here .*(ELF|header|short)"),
        ("kill -9 $$", "it ended with -9"),
    ],
)
def test_a_compiler_that_fails(tmp_path: Path, text: str, message: str) -> None:
    command = script(tmp_path, "cc", text)
    with pytest.raises(c_compiler.CompilerFailed, match=message):
        c_compiler.compile_library([str(command)], [], native.SOURCES, tmp_path / "made.so")


@pytest.mark.parametrize("text", ["sleep 600", "sleep 600 & wait", "exec yes", "(sleep 600) & exit 0"])
def test_a_compiler_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(c_compiler, "SECONDS", 0.5)
    monkeypatch.setenv("CC", str(script(tmp_path, "cc", text)))
    native.build.cache_clear()
    try:
        made = native.build()
    finally:
        native.build.cache_clear()
    assert made.library is None and "did not end within" in made.reason


def test_a_library_for_another_processor_does_not_end_us(tmp_path: Path) -> None:
    header = tmp_path / "illegal.h"
    header.write_text("#include <signal.h>\n__attribute__((constructor)) static void start(void) { raise(SIGILL); }\n")
    command = [*c_compiler.compiler_command(), "-include", str(header)]
    with pytest.raises(c_compiler.CompilerFailed, match=signal.SIGILL.name):
        c_compiler.compile_library(command, ["-shared", "-fPIC", "-std=gnu11"], native.SOURCES, tmp_path / "made.so")


def test_what_cc_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = script(tmp_path, "my own cc", "exit 0")
    usual = next(path for name in ("cc", "gcc", "clang") if (path := shutil.which(name)))
    for given, expected in [
        (str(spaced), (str(spaced),)),
        (f"'{spaced}' -m64 '-DA=b c'", (str(spaced), "-m64", "-DA=b c")),
        (f"{usual} -m64", (usual, "-m64")),
        ("'open quote", (usual,)),
        ("no-such-compiler -O2", (usual,)),
        ("  ", (usual,)),
        ("", (usual,)),
    ]:
        monkeypatch.setenv("CC", given)
        assert c_compiler.compiler_command() == expected, given
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert c_compiler.compiler_command() == () and native.compiler() is None
