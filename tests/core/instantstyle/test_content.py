"""Taking content out of embeddings: by hand on few elements, and what each way promises."""

import pytest
import torch

from zsamb_core.instantstyle.content import mask_content, project_out, split, subtract


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(values):
    return torch.tensor(values, dtype=torch.float32)


def test_subtraction_by_hand():
    embeds, content = rows([[1, 2, 3], [0, 0, 0]]), rows([1, -1, 4])
    assert subtract(embeds, content, 0.5).tolist() == [[0.5, 2.5, 1], [-0.5, 0.5, -2]]
    assert subtract(embeds, content, 1).tolist() == [[0, 3, -1], [-1, 1, -4]]
    assert subtract(embeds, content, -1).tolist() == [[2, 1, 7], [1, -1, 4]]


def test_nothing_subtracted_is_the_same_object():
    embeds = randn(2, 8)
    assert subtract(embeds, randn(8), 0) is embeds and subtract(embeds, randn(8), 0.0) is embeds
    # Even with content that is no number.
    assert subtract(embeds, torch.full((8,), torch.nan), 0.0) is embeds


def test_projecting_out_by_hand():
    """(3, 4) along (1, 1) is 3.5 of it; along (2, 0) the first element goes, whatever the length."""
    embeds = rows([[3, 4], [1, -1], [2, 2]])

    def check(rest, expected):
        torch.testing.assert_close(rest, rows(expected), rtol=0, atol=1e-15)

    check(project_out(embeds, rows([1, 1])), [[-0.5, 0.5], [1, -1], [0, 0]])
    check(project_out(embeds, rows([2, 0])), [[0, 4], [0, -1], [0, 2]])
    check(project_out(rows([[1, 2, 2, 0]]), rows([0, 1, 0, 1])), [[1, 1, 2, -1]])


@pytest.mark.parametrize("length", [1e-3, 1, 100])
def test_nothing_is_left_along_the_content(length):
    embeds, content = randn(5, 1024), length * randn(1024, seed=1)
    rest = project_out(embeds, content)
    direction = content / content.norm()
    assert (rest @ direction).abs().max() < 1e-4 * embeds.norm(dim=1).max()
    torch.testing.assert_close(project_out(rest, content), rest, rtol=1e-4, atol=1e-5)
    # Only the length along the content is lost.
    lost = (embeds - rest) @ direction
    torch.testing.assert_close(embeds.norm(dim=1) ** 2, rest.norm(dim=1) ** 2 + lost**2, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(project_out(embeds, -3 * content), rest, rtol=1e-4, atol=1e-4)


def test_orthogonal_embeddings_stay():
    embeds, content = rows([[0, 5, -7, 0]]), rows([3, 0, 0, 2])
    assert torch.equal(project_out(embeds, content), embeds)


def test_masking_by_hand():
    """Products 8, 0.5, -1, 6: the higher cluster is the first and the last element."""
    embeds, content = rows([[4, 1, -1, 3]]), rows([2, 0.5, 1, 2])
    assert mask_content(embeds, content).tolist() == [[0, 1, -1, 0]]
    # A matter of direction only.
    assert mask_content(7 * embeds, 0.01 * content).tolist() == [[0, 7, -7, 0]]
    assert mask_content(rows([[1, -5]]), rows([1, 1])).tolist() == [[0, -5]]


def test_masking_touches_nothing_else():
    embeds, content = randn(6, 64), randn(64, seed=1)
    rest = mask_content(embeds, content)
    for before, after in zip(embeds, rest, strict=True):
        products = before * content
        masked = after != before
        assert 0 < masked.sum() < 64 and (after[masked] == 0).all()
        assert torch.equal(after[~masked], before[~masked])
        assert products[masked].min() > products[~masked].max()


def spread(values, cut):
    parts = values[:cut], values[cut:]
    return sum(((part - part.mean()) ** 2).sum() for part in parts)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 30])
def test_the_split_is_the_best_of_all(n):
    for seed in range(40):
        values = randn(n, seed=seed)
        if seed % 4 == 1:
            values = (2 * values).round()  # ties
        if seed % 4 == 2:
            values = values**3
        if seed % 4 == 3:
            values = values * 1e-4 + 0.5
        threshold = split(values)
        ordered = values.double().sort().values
        assert threshold in values.tolist()
        cut = int((ordered < threshold).sum())
        if len(set(values.tolist())) == 1:
            assert cut == 0
            continue
        assert 0 < cut < n
        assert spread(ordered, cut) <= min(spread(ordered, c) for c in range(1, n)) + 1e-9 * ordered.var()


def test_the_split_does_not_depend_on_the_order():
    values = randn(50)
    assert all(split(values[torch.randperm(50)]) == split(values) for _ in range(5))
    assert split(torch.tensor([0.0, 10.0, 9.0, 1.0])) == 9
    assert split(torch.tensor([5.0, -5.0])) == 5


@pytest.mark.parametrize("remove", [project_out, mask_content])
def test_content_without_direction_is_refused(remove):
    with pytest.raises(ValueError, match="content's embedding is zero"):
        remove(randn(2, 4), torch.zeros(4))


WAYS = {
    "subtract": lambda e, t: subtract(e, t, 0.7),
    "project_out": project_out,
    "mask_content": mask_content,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_finite_and_leaves_its_inputs_alone(way):
    embeds, content = randn(3, 16), randn(16, seed=1)
    embeds[1] = 0
    before = embeds.clone(), content.clone()
    rest = WAYS[way](embeds, content)
    assert rest.isfinite().all() and rest.shape == embeds.shape and rest.dtype == embeds.dtype
    assert torch.equal(embeds, before[0]) and torch.equal(content, before[1])
    if way != "subtract":
        assert not rest[1].any()


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_its_rows(way):
    embeds, content = randn(4, 16), randn(16, seed=1)
    each = torch.cat([WAYS[way](e[None], content) for e in embeds])
    torch.testing.assert_close(WAYS[way](embeds, content), each, rtol=1e-6, atol=1e-6)


def test_nothing_is_masked_where_nothing_stands_out():
    embeds = rows([[1, 1, 1, 1], [0, 0, 0, 0]])
    assert torch.equal(mask_content(embeds, rows([2, 2, 2, 2])), embeds)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_contents_are_directions(scale):
    embeds, content = randn(3, 64), randn(64, seed=1)
    for function in (project_out, mask_content):
        torch.testing.assert_close(function(embeds, content * scale), function(embeds, content))
