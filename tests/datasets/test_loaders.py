"""Fetching, checking and reading the named data sets; downloads come from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr

from brainrdl import BrainrdlError, datasets
from brainrdl._core import progress
from brainrdl.datasets import catalogue, download, loaders
from brainrdl.datasets.catalogue import DataFile, DataInfo

CONTENT = bytes(range(256)) * 5000


def refused(words: str):
    return pytest.raises(BrainrdlError, match=words)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `files`, whole or from a byte on; breaks off after `breaks` bytes if that is set."""

    def do_GET(self):
        server = self.server
        content = server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        server.asked.append(asked)
        server.gate.wait(60)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : server.breaks or None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked, served.breaks, served.ranges = {"a.bin": CONTENT}, [], 0, True
    served.gate = threading.Event()  # answers wait until it is set
    served.gate.set()
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def known(server, monkeypatch):
    """Put one data set of one file, on the server, in the place of the real ones."""
    monkeypatch.delenv("BRAINRDL_DATA", raising=False)

    def put(**changes: object) -> None:
        url = f"http://127.0.0.1:{server.server_port}/a.bin"
        file = {"name": "sub/a.bin", "size": len(CONTENT), "sha256": sha256(CONTENT), "url": url} | changes
        info = DataInfo("toy", "Toy", "1", "CC0", "Nobody (2026)", (DataFile(**file),), page="https://example.org/toy")
        monkeypatch.setattr(catalogue, "known_sets", lambda: {"toy": info})

    put()
    return put


def fetch(tmp_path) -> bytes:
    return (datasets.fetch("toy", tmp_path, progress=False) / "sub" / "a.bin").read_bytes()


# Fetching


def test_a_slow_download_shows_its_megabytes_on_stderr(server, known, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_AFTER", -1.0)
    monkeypatch.setattr(download, "_MEGABYTE", 1)
    datasets.fetch("toy", tmp_path)
    shown = capsys.readouterr()
    assert f"a.bin, MB: 65536 of {len(CONTENT)}, about" in shown.err
    assert shown.out == ""


def test_a_file_is_downloaded_once(known, server, tmp_path) -> None:
    assert [file.name for file in datasets.missing("toy", tmp_path)] == ["sub/a.bin"]
    assert fetch(tmp_path) == CONTENT
    assert datasets.missing("toy", tmp_path) == []
    assert fetch(tmp_path) == CONTENT
    assert len(server.asked) == 1
    assert [path.name for path in (tmp_path / "toy" / "sub").iterdir()] == ["a.bin"]


def test_of_two_that_fetch_a_data_set_at_the_same_time_one_downloads_and_the_other_waits(known, server, tmp_path):
    server.gate.clear()
    found: list[bytes] = []
    both = [threading.Thread(target=lambda: found.append(fetch(tmp_path))) for _ in range(2)]

    def race() -> None:
        both[0].start()
        while not server.asked:
            time.sleep(0.01)
        both[1].start()
        both[1].join(1)  # it waits
        server.gate.set()
        for one in both:
            one.join()

    with pytest.warns(UserWarning, match="'toy' is being fetched by another process; waiting for it: process"):
        race()
    assert found == [CONTENT, CONTENT]
    assert len(server.asked) == 1
    assert [path.name for path in (tmp_path / "toy").rglob("*") if path.is_file()] == ["a.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_off_goes_on(known, server, tmp_path, ranges) -> None:
    server.breaks, server.ranges = 700_000, ranges
    with refused("cannot download http://127.0.0.1.*; try again to resume, or set BRAINRDL_DATA to a folder"):
        fetch(tmp_path)
    kept = (tmp_path / "toy" / "sub" / "a.bin.part").stat().st_size
    assert 0 < kept <= 700_000
    server.breaks = 0
    assert fetch(tmp_path) == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_file_with_another_checksum_is_thrown_away(known, server, tmp_path) -> None:
    server.files["a.bin"] = CONTENT[:-1] + b"x"
    with refused("gave another file than 'sub/a.bin' of data set 'toy', whose SHA-256 is"):
        fetch(tmp_path)
    assert not list((tmp_path / "toy" / "sub").iterdir())
    server.files["a.bin"] = CONTENT
    assert fetch(tmp_path) == CONTENT


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(known, tmp_path) -> None:
    fetch(tmp_path)
    (tmp_path / "toy" / "sub" / "a.bin").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(tmp_path) == CONTENT


def test_a_compressed_download_is_stored_uncompressed(known, server, tmp_path) -> None:
    packed = server.files["a.bin"] = gzip.compress(CONTENT)
    known(download_size=len(packed), download_sha256=sha256(packed))
    assert fetch(tmp_path) == CONTENT
    assert [path.name for path in (tmp_path / "toy" / "sub").iterdir()] == ["a.bin"]


def test_a_server_without_the_file_is_named(known, server, tmp_path) -> None:
    server.files.clear()
    with refused("cannot download http://127.0.0.1.*/a.bin: HTTPError"):
        fetch(tmp_path)


def test_an_offline_copy_that_is_another_file_is_named(known, server, tmp_path, monkeypatch) -> None:
    server.files.clear()
    copy = tmp_path / "offline" / "toy" / "a.bin"
    copy.parent.mkdir(parents=True)
    monkeypatch.setenv("BRAINRDL_DATA", str(tmp_path / "offline"))
    with refused(r"or put it, or an archive toy\.tar\.gz, below BRAINRDL_DATA \('.*offline/toy'\)"):
        fetch(tmp_path)
    copy.write_bytes(CONTENT + b"x")
    assert datasets.kept("toy", tmp_path) == "offline copy"
    with refused(rf"replace the copy '.*a\.bin', whose SHA-256 is not {sha256(CONTENT)}"):
        fetch(tmp_path)
    copy.write_bytes(CONTENT)
    assert fetch(tmp_path) == CONTENT
    assert datasets.kept("toy", tmp_path) == "yes"


def test_a_file_without_an_address_says_where_to_get_it(known, tmp_path) -> None:
    known(url=None)
    with refused("'sub/a.bin' of data set 'toy' has no download address: get it from https://example.org/toy"):
        fetch(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(known, tmp_path) -> None:
    (tmp_path / "toy").write_text("a file in the way")
    with refused("cannot write '.*toy': (Not a directory|File exists); choose another folder"):
        fetch(tmp_path)


def test_an_unknown_name_comes_with_the_nearest() -> None:
    with refused("data set 'kriegskorte92' is not known; nearest: 'kriegeskorte92'"):
        datasets.info("kriegskorte92")


# The offline copy


def offline_plain(folder) -> None:
    (folder / "toy" / "sub").mkdir(parents=True)
    (folder / "toy" / "sub" / "a.bin").write_bytes(CONTENT)


def offline_gzip(folder) -> None:
    (folder / "toy").mkdir()
    (folder / "toy" / "a.bin.gz").write_bytes(gzip.compress(CONTENT))


def offline_archive(folder) -> None:
    with tarfile.open(folder / "toy.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("toy/sub/a.bin")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))


@pytest.mark.parametrize("place", [offline_plain, offline_gzip, offline_archive])
def test_an_offline_copy_serves_instead_of_a_download(known, server, tmp_path, monkeypatch, place) -> None:
    (tmp_path / "offline").mkdir()
    place(tmp_path / "offline")
    monkeypatch.setenv("BRAINRDL_DATA", str(tmp_path / "offline"))
    assert fetch(tmp_path / "cache") == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("place", [offline_plain, offline_gzip, offline_archive])
def test_an_offline_copy_with_another_checksum_is_passed_over(known, server, tmp_path, monkeypatch, place) -> None:
    (tmp_path / "offline").mkdir()
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "CONTENT", CONTENT[:-1] + b"x")  # what lies offline is not what it should be
        place(tmp_path / "offline")
    monkeypatch.setenv("BRAINRDL_DATA", str(tmp_path / "offline"))
    assert fetch(tmp_path / "cache") == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize("name", ["toy.tar.gz", "toy/a.bin.gz"])
def test_a_damaged_offline_archive_is_passed_over(known, server, tmp_path, monkeypatch, name) -> None:
    (tmp_path / "offline" / "toy").mkdir(parents=True)
    (tmp_path / "offline" / name).write_bytes(b"\x1f\x8b no archive")
    monkeypatch.setenv("BRAINRDL_DATA", str(tmp_path / "offline"))
    assert fetch(tmp_path / "cache") == CONTENT


# What is reported


@pytest.mark.parametrize("name", datasets.names())
def test_every_data_set_tells_what_it_is_and_whose(name: str) -> None:
    info = datasets.info(name)
    assert all([info.title, info.version, info.licence, info.citation, info.doi or info.page])
    assert info.size > 0
    for file in info.files:
        assert len(file.sha256) == 64
        assert (file.url or info.page or "").startswith("https://")


# What the sets hold


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("data_sets")


def test_kriegeskorte92_gives_images_and_rdms_of_the_same_names(data_folder, cache) -> None:
    data = datasets.load("kriegeskorte92", cache, progress=False)
    assert data.stimuli.names == tuple(data.rdms.pattern_descriptors["stimulus"])
    assert len(data.stimuli.categories) == 6
    assert data.rdms.rdm_descriptors["roi"] == ["hIT"] * 8 + ["mIT"]


def test_monkey_and_human_it_correlate_and_the_monkey_is_the_monkey(data_folder, cache) -> None:
    rdms = datasets.load("kriegeskorte92", cache, progress=False).rdms.dissimilarities
    human, monkey = rdms[:8].mean(0), rdms[8]
    assert np.corrcoef(human, monkey)[0, 1] == pytest.approx(0.49, abs=0.01)
    assert 0.3 < spearmanr(human, monkey).statistic < 0.6


def test_algonauts92_gives_two_regions_of_15_subjects(data_folder, cache) -> None:
    data = datasets.load("algonauts92", cache, progress=False)
    assert data.stimuli.names == tuple(data.rdms.pattern_descriptors["stimulus"])
    assert data.rdms.n_rdm == 30
    assert set(data.rdms.rdm_descriptors["roi"]) == {"EVC", "IT"}


def test_the_two_sets_of_92_images_show_the_same_objects_in_the_same_order(data_folder, cache) -> None:
    """One has them on grey, the other on white: of all pairings of silhouettes the best is that by position."""
    shown = [datasets.load(name, cache, progress=False).stimuli.images() for name in ("kriegeskorte92", "algonauts92")]
    silhouettes = [((images - images[:, :, :1, :1]).abs().amax(1) > 0.1).flatten(1).numpy() for images in shown]
    alike = np.corrcoef(*silhouettes)[:92, 92:]
    assert linear_sum_assignment(-alike)[1].tolist() == list(range(92))


def test_mnist_gives_labelled_digits(data_folder, cache) -> None:
    data = datasets.load("mnist", cache, train=False, progress=False)
    assert len(data.stimuli) == 10_000
    assert [data.stimuli.labels[name][0] for name in data.stimuli.names[:5]] == list("72104")


def cifar_archive(folder, name: str, members: dict[str, bytes]) -> None:
    with tarfile.open(folder / name, "w:gz") as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_binary_version(name: str, tmp_path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    labels = [2, 0, 1, 2]
    coarse = [[9]] * 4 if name == "cifar100" else [[]] * 4
    rows = [bytes([*top, label]) + image.transpose(2, 0, 1).tobytes()
            for top, label, image in zip(coarse, labels, images, strict=True)]  # fmt: skip
    folder, file, words = {
        "cifar10": ("cifar-10-batches-bin", "test_batch.bin", "batches.meta.txt"),
        "cifar100": ("cifar-100-binary", "test.bin", "fine_label_names.txt"),
    }[name]
    archive = datasets.info(name).files[0].name
    cifar_archive(tmp_path, archive, {f"{folder}/{file}": b"".join(rows), f"{folder}/{words}": b"cat\ndog\nfox\n\n"})
    stimuli, _ = loaders._LOADERS[name](tmp_path, False)
    assert [stimuli.labels[each] for each in stimuli.names] == ["fox", "cat", "dog", "fox"]
    np.testing.assert_allclose(stimuli.images().numpy(), images.transpose(0, 3, 1, 2) / 255, atol=1e-6)


def test_files_are_kept_in_the_cache_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform.startswith("linux"):
        assert datasets.cache_folder() == tmp_path / "brainrdl"
    assert datasets.cache_folder().name == "brainrdl"
