import copy
import dataclasses
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcur
from jaxcur import learners
from jaxcur._base import register_dataclass

PACKAGE = Path(jaxcur.__file__).parent


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Metre:
    length: jax.Array
    unit: str = dataclasses.field(default="m", metadata={"static": True})


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Second:
    length: jax.Array
    unit: str = dataclasses.field(default="m", metadata={"static": True})


def test_structures_tell_classes_apart():
    structure = jax.tree.structure
    assert structure(Metre(1)) == structure(Metre(2))
    assert structure(Metre(1)) != structure(Second(1))
    assert structure(Metre(1)) != structure(Metre(1, "ft"))


def test_structures_of_kernels_and_their_learners_differ():
    kernels = [learners.RBF(0.5), learners.Laplacian(0.5)]
    found = [jax.tree.structure(kernel) for kernel in kernels]
    assert found[0] != found[1]
    found = [jax.tree.structure(learners.KernelRidge(k, 0.1)) for k in kernels]
    assert found[0] != found[1]


def test_kernels_registered_by_jax_itself_are_told_apart_in_a_learner():
    def make(name):
        cls = dataclasses.make_dataclass(
            name,
            [("gamma", float)],
            frozen=True,
            namespace={"__call__": lambda self, a, b: a @ b.T},
        )
        return jax.tree_util.register_dataclass(
            cls, data_fields=["gamma"], meta_fields=[]
        )

    one, two = make("One")(0.5), make("Two")(0.5)
    found = [jax.tree.structure(learners.KernelRidge(k, 0.1)) for k in (one, two)]
    assert found[0] != found[1]


def test_the_package_uses_no_other_registration():
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "tree_util.register_dataclass" in path.read_text(encoding="utf-8")
    ]
    assert users == ["_base/_pytree.py"]


def test_transformations_rebuild_the_class():
    value = Metre(jnp.arange(3.0), "ft")
    doubled = jax.jit(lambda v: jax.tree.map(lambda x: 2 * x, v))(value)
    assert isinstance(doubled, Metre) and doubled.unit == "ft"
    np.testing.assert_array_equal(doubled.length, [0, 2, 4])
    mapped = jax.vmap(lambda v: dataclasses.replace(v, length=v.length + 1))(value)
    np.testing.assert_array_equal(mapped.length, [1, 2, 3])
    gradient = jax.grad(lambda v: jnp.sum(v.length**2))(value)
    np.testing.assert_array_equal(gradient.length, [0, 2, 4])


def test_paths_name_the_fields():
    ((path, _),) = jax.tree_util.tree_leaves_with_path(Metre(jnp.ones(())))
    assert jax.tree_util.keystr(path) == ".length"


def test_copies_and_pickles():
    value = Metre(np.arange(2.0), "ft")
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert type(other) is Metre and other.unit == "ft"
        np.testing.assert_array_equal(other.length, value.length)


def test_a_field_must_be_named_once():
    @dataclasses.dataclass(frozen=True)
    class Half:
        a: int
        b: int

    with pytest.raises(TypeError, match="every field"):
        register_dataclass(Half, data_fields=["a"], meta_fields=[])
