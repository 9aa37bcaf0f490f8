import pytest
import tensorflow_datasets as tfds

from lsh_jax.data.builders import BUILDERS


@pytest.mark.parametrize("name", ["ptb", "text"])
def test_a_builder_works_as_any_tfds_builder_does(write_corpus, tmp_path, name):
    builder = BUILDERS[name](data_dir=tmp_path / "data", file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=write_corpus())
    builder.download_and_prepare(download_config=config)
    assert builder.name == name
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    (record,) = builder.as_data_source(split="train")
    assert record == {"text": b"the cat sat\nthe dog\n"}


def test_prepared_data_are_read_back_without_the_class(write_corpus, tmp_path):
    builder = BUILDERS["text"](data_dir=tmp_path / "data", file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=write_corpus())
    builder.download_and_prepare(download_config=config)
    again = tfds.builder_from_directory(builder.data_dir)
    assert again.as_data_source(split="test")[0]["text"] == b"a cat\n"
