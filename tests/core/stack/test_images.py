"""Images by name: what Docker takes for one, and which digest of a local image is the one that was named."""

from __future__ import annotations

import pytest

from canonq.core.errors import RecipeProblem
from canonq.core.stack.images import HUB, ImageName, digest_of, image_name, is_known_as

ONE, TWO, ID = (f"sha256:{digit * 64}" for digit in "129")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", ImageName(HUB, "library/nginx", "latest")),
        ("nginx:1.25-alpine", ImageName(HUB, "library/nginx", "1.25-alpine")),
        ("docker.io/nginx:1", ImageName(HUB, "library/nginx", "1")),
        ("index.docker.io/library/nginx:1", ImageName(HUB, "library/nginx", "1")),
        ("owner/app:1", ImageName(HUB, "owner/app", "1")),
        ("ghcr.io/owner/app__x:v1", ImageName("ghcr.io", "owner/app__x", "v1")),
        ("localhost/app:1", ImageName("localhost", "app", "1")),
        ("127.0.0.1:5000/a/b-c.d/e:X_1", ImageName("127.0.0.1:5000", "a/b-c.d/e", "X_1")),
        ("[::1]:5000/app:1", ImageName("[::1]:5000", "app", "1")),
        (f"nginx@{ONE}", ImageName(HUB, "library/nginx", None, ONE)),
        (f"ghcr.io/owner/app:1@{ONE}", ImageName("ghcr.io", "owner/app", "1", ONE)),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(reference: str, name: ImageName) -> None:
    assert image_name(reference) == name


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("", "it is empty"),
        ("ghcr.io/Org/app:1", "lower case"),
        ("Org/app:1", "lower case"),
        ("app:", "its tag is empty"),
        ("ghcr.io/owner/app:", "its tag is empty"),
        ("app:1 ", "its tag has characters"),
        (" app:1", "a name may not have"),
        ("app:a/b:", "its tag is empty"),
        ("app:-1", "its tag has characters"),
        ("a" * 300, "longer than"),
        ("app:" + "a" * 129, "its tag has characters"),
        ("app@sha256:12", "not a digest"),
        ("app@", "not a digest"),
        ("ghcr.io/", "a name may not have"),
        ("//app", "a name may not have"),
        ("-x.y/app", "not a registry's address"),
        ("a..b/app", "not a registry's address"),
        ("https://ghcr.io/app:1", "not a registry's address"),
        ("app\n:1", "a name may not have"),
        ("app;rm -rf:1", "a name may not have"),
        ("f" * 64, "an image's id"),
    ],
    ids=ascii,
)
def test_what_docker_would_refuse_is_the_recipes_and_says_what_is_wrong(reference: str, why: str) -> None:
    with pytest.raises(RecipeProblem, match=why) as told:
        image_name(reference, where="the service 'app'")
    assert told.value.code == "image-name-invalid"
    assert "of the service 'app'" in told.value.what


def image(*digests: str) -> dict[str, object]:
    return {"Id": ID, "RepoDigests": list(digests)}


def test_the_digest_is_that_of_the_repository_that_was_named() -> None:
    there = image(f"mirror.example.org/site@{TWO}", f"registry.example.org/site@{ONE}")
    assert digest_of("registry.example.org/site:1", there) == ONE
    assert digest_of("mirror.example.org/site:1", there) == TWO
    assert digest_of("nginx:1", image(f"nginx@{ONE}", f"other/nginx@{TWO}")) == ONE


def test_an_image_that_its_repository_gave_no_digest_has_its_id() -> None:
    assert digest_of("site:1", image()) == ID
    assert digest_of("site:1", image(f"mirror.example.org/site@{TWO}", f"<none>@{ONE}")) == ID


def test_a_digest_that_is_named_is_the_one_on_record() -> None:
    assert digest_of(f"site@{TWO}", image(f"site@{ONE}")) == TWO


def test_the_order_in_which_docker_lists_digests_changes_nothing() -> None:
    listed = [f"site@{TWO}", f"site@{ONE}"]
    assert digest_of("site:1", image(*listed)) == digest_of("site:1", image(*reversed(listed)))


def test_an_image_is_known_by_any_digest_of_its_repository_and_by_its_id() -> None:
    there = image(f"site@{ONE}", f"site@{TWO}", f"mirror.example.org/site@sha256:{'3' * 64}")
    assert [is_known_as("site:1", digest, there) for digest in (ONE, TWO, ID)] == [True, True, True]
    assert not is_known_as("site:1", f"sha256:{'3' * 64}", there)
