"""Label sets, and the way from a sound's embedding to a sentence."""

import json

import pytest
import torch

from zsamb_core.context.music import (
    GENRE,
    LONGEST,
    SHIPPED,
    LabelSet,
    embed_track,
    matches,
    read_label_sets,
    sentence,
)


def test_the_shipped_labels():
    sets = read_label_sets(SHIPPED)
    assert list(sets) == ["mood", "tone", "instrument", GENRE]
    assert all(len(part.labels) == len(set(part.labels)) >= 10 for part in sets.values())
    assert {"heavy and thunderous", "grand and majestic"} <= set(sets["mood"].labels)  # the published ones
    assert sentence(sets["mood"], ["grand and majestic"]) == "The atmosphere is grand and majestic."


def test_the_user_s_own_labels(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "genre: {prompt: '{label}!', sentence: 'It is {label}.', labels: [polka]}\n"
        "place: {prompt: 'in {label}', sentence: 'One is in {label}.', labels: [a hall, a cave]}\n"
    )
    sets = read_label_sets(SHIPPED, file)
    assert list(sets) == ["mood", "tone", "instrument", GENRE, "place"]
    assert sets[GENRE] == LabelSet("{label}!", "It is {label}.", ("polka",))
    assert sentence(sets["place"], ["a hall", "a cave", "a barn"]) == "One is in a hall, a cave and a barn."


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2]", "is a list, expected sets"),
        ("a: b: c", "cannot be read"),
        ("mood: 5", "set 'mood': expected prompt, sentence and labels"),
        ("mood: {prompt: '{label}', sentence: '{label}'}", "expected prompt, sentence and labels"),
        ("mood: {prompt: x, sentence: '{label}', labels: [a]}", "prompt is 'x', expected a text with"),
        ("mood: {prompt: '{label}', sentence: 3, labels: [a]}", "sentence is 3"),
        ("mood: {prompt: '{label}', sentence: '{label}', labels: []}", "labels is .., expected a list"),
        ("mood: {prompt: '{label}', sentence: '{label}', labels: [1]}", "labels is .1."),
        ("!!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)  # fmt: skip
def test_broken_label_files_are_refused(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_label_sets(SHIPPED, file)
    with pytest.raises(ValueError, match="cannot be read"):
        read_label_sets(tmp_path / "absent.yaml")


class Constructed:
    """A music model whose sounds are what the test says they are."""

    rate, window, scale, model = 10, 20, 10.0, None

    def __init__(self, texts):
        self.texts = texts
        self.sound = torch.zeros(1)

    def embed_texts(self, texts):
        return self.texts(texts)

    def embed_sound(self, track):
        return self.sound


def test_a_sound_made_to_match_a_label_finds_it():
    """Every label of every set in turn, with random text embeddings."""
    sets = read_label_sets(SHIPPED)
    table: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(3)

    def embed(texts):
        return torch.stack([table.setdefault(t, torch.randn(64, generator=generator)) for t in texts])

    model = Constructed(embed)
    for name, part in sets.items():
        for label in part.labels:
            text = part.prompt.replace("{label}", label)
            noise = torch.randn(64, generator=generator)
            model.sound = embed([text])[0] * 7 + noise
            rankings = matches(model, torch.stack(list(embed_track(model, torch.zeros(50)))), sets)
            assert rankings[name][0].label == label
            assert sum(m.probability for m in rankings[name]) == pytest.approx(1)
            cosines = [m.cosine for m in rankings[name]]
            assert cosines == sorted(cosines, reverse=True)


class Measured(Constructed):
    """Its embedding of a window is the window's loudest sample and its length."""

    def embed_sound(self, track):
        return torch.tensor([float(track.abs().max()), float(len(track))])


def test_silent_windows_are_left_out():
    """Windows of 20 samples. Silence is what lies 60 dB below the loudest moment of the whole recording."""
    model = Measured(None)
    level = torch.tensor([0.0, 0.5, 0.0004, 0.0006, 0.0, 0.25]).repeat_interleave(20)
    embeds = torch.stack(list(embed_track(model, level)))
    assert embeds[:, 0].tolist() == pytest.approx([0.5, 0.0006, 0.25]) and (embeds[:, 1] == 20).all()
    # The same beside nothing louder: it is the music.
    quiet = torch.stack(list(embed_track(model, level[40:100])))
    assert quiet[:, 0].tolist() == pytest.approx([0.0004, 0.0006])
    # A recording of silence alone, which the nodes do not hear, has its windows all the same.
    assert len(list(embed_track(model, torch.zeros(50)))) == 3


def test_every_window_counts_alike():
    """Two windows that sound like one label, one that sounds like another and is louder in length."""
    axes = torch.eye(3)
    model = Constructed(lambda texts: axes[: len(texts)])
    sets = {"x": LabelSet("{label}", "{label}", ("a", "b"))}
    sounds = torch.stack([axes[0], axes[0] * 0.01, axes[1] * 100])
    ranking = matches(model, sounds, sets)["x"]
    assert [m.label for m in ranking] == ["a", "b"]
    assert ranking[0].cosine == pytest.approx(2 / 5**0.5) and ranking[1].cosine == pytest.approx(1 / 5**0.5)
    ratio = ranking[0].probability / ranking[1].probability
    assert ratio == pytest.approx(float(torch.tensor(10 / 5**0.5).exp()), rel=1e-5)


@pytest.mark.parametrize("part", ["prompt", "sentence", "labels"])
def test_texts_of_labels_are_as_long_as_is_said(tmp_path, part):
    file = tmp_path / "labels.yaml"
    for length, taken in ((LONGEST, True), (LONGEST + 1, False)):
        texts = {"prompt": "{label}", "sentence": "{label}", "labels": "a"}
        texts[part] = texts[part] + "x" * (length - len(texts[part]))
        file.write_text(json.dumps({"own": {**texts, "labels": [texts["labels"]]}}))
        if taken:
            assert list(read_label_sets(file)) == ["own"]
        else:
            with pytest.raises(
                ValueError, match="set 'own': .* is too long, expected 500 characters at most"
            ):
                read_label_sets(file)
