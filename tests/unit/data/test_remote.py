"""Fetching files: against a small server on this machine, and against a folder."""

import hashlib
import http.server
import threading

import numpy as np
import pooch
import pytest

from jaxcur.data import _remote
from jaxcur.data._drug_discovery import DRUG_TASKS, load_drug_discovery
from jaxcur.data._remote import DownloadError, RemoteFile, fetch, read_sums
from jaxcur.data._tables import TableError

CONTENT = b"Drug_ID\tDrug\tY\na\tCCO\t1.5\n"
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    pages: dict[str, bytes] = {}
    asked: list[str] = []

    def do_GET(self):
        Handler.asked.append(self.path)
        body = Handler.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Address of a server, with an empty cache folder and no JAXCUR_DATA."""
    monkeypatch.delenv("JAXCUR_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    Handler.pages, Handler.asked = {"/a.tab": CONTENT}, []
    httpd = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder that JAXCUR_DATA names."""
    monkeypatch.setenv("JAXCUR_DATA", str(tmp_path))
    return tmp_path


def save(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")


def test_a_file_with_a_checksum_is_downloaded_once(server):
    file = RemoteFile("a.tab", f"{server}/a.tab", SHA)
    assert fetch(file).read_bytes() == CONTENT
    assert fetch(file).read_bytes() == CONTENT
    assert Handler.asked == ["/a.tab"]


def test_a_wrong_checksum_is_refused_and_leaves_no_file(server):
    file = RemoteFile("a.tab", f"{server}/a.tab", "0" * 64)
    with pytest.raises(DownloadError, match="cannot download"):
        fetch(file)
    assert not list(_remote.data_folder().glob("*.tab"))


def test_no_known_checksum_needs_consent_before_any_download(server):
    file = RemoteFile("a.tab", f"{server}/a.tab")
    with pytest.raises(DownloadError, match="accept_unverified=True"):
        fetch(file)
    assert Handler.asked == []


def test_an_accepted_download_is_recorded_and_enforced_afterwards(server):
    file = RemoteFile("a.tab", f"{server}/a.tab")
    path = fetch(file, accept_unverified=True)
    assert read_sums(path.parent) == {"a.tab": SHA}
    assert fetch(file) == path
    path.write_bytes(CONTENT + b"b\tC\t2\n")
    with pytest.raises(DownloadError, match="delete it and fetch it again"):
        fetch(file, accept_unverified=True)
    path.unlink()
    Handler.pages["/a.tab"] = CONTENT + b"\n"
    with pytest.raises(DownloadError, match="cannot download"):
        fetch(file, accept_unverified=True)


def test_a_web_page_in_place_of_the_file_is_refused(server):
    Handler.pages["/a.tab"] = b"  <!DOCTYPE html><html>maintenance</html>"
    with pytest.raises(DownloadError, match="web page"):
        fetch(RemoteFile("a.tab", f"{server}/a.tab"), accept_unverified=True)
    assert not (_remote.data_folder() / "a.tab").exists()


def test_a_missing_page_names_the_way_out(server):
    file = RemoteFile("b.tab", f"{server}/b.tab", SHA)
    with pytest.raises(DownloadError, match="set JAXCUR_DATA"):
        fetch(file)


def test_the_folder_of_jaxcur_data_is_used_without_any_download(server, folder):
    file = RemoteFile("a.tab", f"{server}/a.tab")
    with pytest.raises(DownloadError, match="there is no 'a.tab'"):
        fetch(file, accept_unverified=True)
    (folder / "a.tab").write_bytes(CONTENT)
    assert fetch(file) == folder / "a.tab"
    assert fetch(RemoteFile("a.tab", file.url, SHA)) == folder / "a.tab"
    assert Handler.asked == []


def test_checksums_hold_in_the_folder_of_jaxcur_data(folder):
    (folder / "a.tab").write_bytes(CONTENT)
    url = "https://example.org/a.tab"
    with pytest.raises(DownloadError, match="its published checksum"):
        fetch(RemoteFile("a.tab", url, "1" * 64))
    save(folder, "SHA256SUMS", f"{'2' * 64} *a.tab\n")
    with pytest.raises(DownloadError, match="SHA256SUMS"):
        fetch(RemoteFile("a.tab", url))
    save(folder, "SHA256SUMS", f"{SHA}  a.tab\n\n")
    assert fetch(RemoteFile("a.tab", url)).name == "a.tab"


def test_a_damaged_list_of_checksums_names_its_line(folder):
    (folder / "a.tab").write_bytes(CONTENT)
    save(folder, "SHA256SUMS", f"{SHA}  b\nnonsense\n")
    with pytest.raises(DownloadError, match="line 2"):
        fetch(RemoteFile("a.tab", "https://example.org/a.tab"))


def test_without_pooch_the_message_names_the_extra(monkeypatch):
    def missing(module, extra):
        raise ModuleNotFoundError(f'pip install "jaxcur[{extra}]"')

    monkeypatch.delenv("JAXCUR_DATA", raising=False)
    monkeypatch.setattr(_remote, "import_extra", missing)
    with pytest.raises(ModuleNotFoundError, match=r"jaxcur\[data\]"):
        fetch(RemoteFile("a.tab", "https://example.org/a.tab", SHA))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("../a", "https://x"), "name"),
        (("", "https://x"), "name"),
        (("a", "ftp://x"), "url"),
        (("a", "https://x", "abc"), "sha256"),
        (("a", "https://x", SHA.upper()), "sha256"),
    ],
)
def test_a_remote_file_refuses(arguments, word):
    with pytest.raises(ValueError, match=f"`{word}`"):
        RemoteFile(*arguments)


def test_there_are_sixteen_tasks_half_of_them_measurements():
    kinds = [task.kind for task in DRUG_TASKS.values()]
    assert len(kinds) == 16
    assert kinds.count("regression") == kinds.count("classification") == 8
    flipped = {name for name, task in DRUG_TASKS.items() if task.flipped}
    assert flipped == {"herg", "bioavailability_ma", "hia_hou"}
    assert len({task.file.url for task in DRUG_TASKS.values()}) == 16


def test_a_measurement_is_compared_with_the_bar_strictly(folder):
    rows = "Drug_ID\tDrug\tY\na\tCCO\t-4.7\nb\tC1CC1\t-4.69\nc\tN\t\n"
    save(folder, "caco2_wang.tab", rows)
    drugs = load_drug_discovery("Caco2_Wang")
    assert drugs.smiles == ("CCO", "C1CC1")
    np.testing.assert_array_equal(drugs.interesting, [False, True])
    assert drugs.num_dropped == 1
    assert drugs.threshold == -4.7


def test_the_other_column_names_are_understood(folder):
    save(folder, "clearance_hepatocyte_az.tab", 'ID\tX\tY\n"a"\t"C#N"\t51\n')
    drugs = load_drug_discovery("clearance_hepatocyte_az")
    assert drugs.smiles == ("C#N",)
    assert drugs.interesting.tolist() == [True]


def test_only_human_plasma_is_kept(folder):
    rows = (
        "Drug_ID\tDrug\tY\tSpecies\na\tCCO\t99\tHomo sapiens\n"
        "a\tCCO\t90\tMus musculus\n"
    )
    save(folder, "ppbr_az.tab", rows)
    drugs = load_drug_discovery("ppbr_az")
    assert drugs.outcome.tolist() == [99.0]
    assert drugs.num_dropped == 1


def test_labels_are_flipped_where_zero_is_the_good_one(folder):
    rows = "Drug_ID\tDrug\tY\na\tCCO\t0\nb\tN\t1\n"
    save(folder, "herg.tab", rows)
    save(folder, "dili.tab", rows)
    assert load_drug_discovery("herg").interesting.tolist() == [True, False]
    assert load_drug_discovery("dili").interesting.tolist() == [False, True]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Drug_ID\tDrug\tY\na\tCCO\t2\n", "labels 0 and 1"),
        ("Drug_ID\tDrug\tY\na\tCCO\t\n", "no row with an outcome"),
        ("Drug_ID\tDrug\tY\na\t\t1\n", "no molecule"),
        ("Drug_ID\tDrug\tlabel\na\tC\t1\n", "no column 'Y'"),
        ("Drug_ID\tDrug\tY\na\tC\thigh\n", "not a number"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(folder, rows, message):
    save(folder, "dili.tab", rows)
    with pytest.raises(TableError, match=message):
        load_drug_discovery("dili")


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ValueError, match="caco2_wang"):
        load_drug_discovery("caco")
