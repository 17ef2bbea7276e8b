"""Data folders and archives from a stranger: nothing in them is run or written elsewhere."""

import io
import os
import tarfile

import numpy as np
import pytest
from fairseq import file_utils
from fairseq.data import codedataset, fasta_dataset
from fairseq.data.audio.audio_utils import get_features_or_waveform
from fairseq.data.audio.data_cfg import S2TDataConfig
from fairseq.data.audio.raw_audio_dataset import RawAudioDataset
from fairseq.logging.meters import MetersDict
from fairseq.models.speech_to_text.hub_interface import S2THubInterface
from helpers import needs_current_fairseq
from hostile import Touches

import fairseq_feedback  # noqa: F401
from fairseq_feedback.errors import FeedbackError

pytestmark = [pytest.mark.core, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def proof(tmp_path):
    """What is created if anything is run."""
    return tmp_path / "proof"


# Data folders


def test_manifest(tmp_path, proof):
    """fairseq evaluates every line of the list of a speech corpus."""
    manifest = tmp_path / "train.txt"
    manifest.write_text(f"open({str(proof)!r}, 'w')\n")
    with pytest.raises(FeedbackError, match="was not run"):
        codedataset.parse_manifest(str(manifest), None)
    assert not proof.exists()
    manifest.write_text("{'audio': 'a.wav', 'units': '" + "1 " * 9000 + "', 'duration': 1.5}\n")
    with pytest.raises(AssertionError, match="unknown format"):  # read; that this is no unit is another matter
        codedataset.parse_manifest(str(manifest), None)


@needs_current_fairseq
def test_specification_of_audio(proof):
    with pytest.raises(FeedbackError, match="was not run"):
        RawAudioDataset(16000, compute_mask=True, feature_encoder_spec=f"open({str(proof)!r}, 'w')")
    assert not proof.exists()


@pytest.mark.parametrize("name", ["a;touch proof;", "a b", "$(touch proof)", "`touch proof`", "a&b", "a\nb", "a'b"])
def test_fasta(tmp_path, monkeypatch, name):
    """fairseq gives the name of a FASTA file to a shell; a data folder names its languages, and so its files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / (name + ".fasta")).write_text(">1\nACGT\n")
    with pytest.raises(FeedbackError, match="rename the file"):
        fasta_dataset.FastaDataset(name)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("kind", ["apply", "object/apply", "object/new"])
def test_configuration_of_a_speech_corpus(tmp_path, proof, kind):
    path = tmp_path / "config.yaml"
    path.write_text(f"sample_rate: !!python/{kind}:os.system [touch {proof}]\n")
    with pytest.raises(Exception, match="python/"):  # whatever yaml calls it
        S2TDataConfig(path).config  # noqa: B018
    assert not proof.exists()


def test_features(tmp_path, proof):
    path = tmp_path / "features.npy"
    np.save(path, np.array([Touches(proof)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        get_features_or_waveform(str(path))
    assert not proof.exists()


def test_speech_by_the_code_of_others(monkeypatch):
    monkeypatch.setattr("torch.hub.load", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(FeedbackError, match="synthesize_speech"):
        S2THubInterface.get_prediction(None, None, None, {}, synthesize_speech=True)


@pytest.mark.parametrize("name", ["eval", "exec", "__import__", "__builtins__", "open", "literal", "torch", "time"])
def test_statistics_of_a_training(proof, name):
    """A checkpoint names the kinds of its statistics; fairseq looks the names up in one module and calls them."""
    with pytest.raises((KeyError, TypeError)):
        MetersDict().load_state_dict([(0, "loss", name, {"val": f"open({str(proof)!r}, 'w')"})])
    assert not proof.exists()


# Archives


def make_archive(path, *names, kind=tarfile.REGTYPE, target=""):
    with tarfile.open(str(path), "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"hello"))
    return str(path)


@pytest.mark.parametrize(
    "names, more",
    [
        (["model/../../proof"], {}),
        (["../proof"], {}),
        (["{folder}/proof"], {}),
        (["{folder}/mine/note"], {}),  # fairseq would take the user's own folder for what it has unpacked
        (["model/link"], {"kind": tarfile.SYMTYPE, "target": "{folder}/mine"}),
        (["model/link"], {"kind": tarfile.LNKTYPE, "target": "{folder}/mine/note"}),
        (["model/pipe"], {"kind": tarfile.FIFOTYPE}),
    ],
)
def test_archive(tmp_path, proof, monkeypatch, names, more):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    for folder in ("mine", "unpacked"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mine" / "note").write_text("mine")
    more = {k: v.format(folder=tmp_path) if isinstance(v, str) else v for k, v in more.items()}
    path = make_archive(tmp_path / "model.tar.gz", "model/a", *(name.format(folder=tmp_path) for name in names), **more)
    with pytest.raises(FeedbackError, match="was not unpacked") as error:
        file_utils.load_archive_file(path)
    assert path in str(error.value)
    assert not proof.exists() and (tmp_path / "mine" / "note").read_text() == "mine"


def test_good_archive(tmp_path):
    path = make_archive(tmp_path / "model.tar.gz", "model/model.pt", "model/dict.xx.txt")
    assert sorted(os.listdir(file_utils.load_archive_file(path))) == ["dict.xx.txt", "model.pt"]
