"""Pressure Poisson systems `A p = b` on a MAC grid, in two or three dimensions, with obstacles.

Pressure lives in cells, velocity on the faces between them. Making a velocity u divergence-free asks for the pressure

    (A p)_i = sum over non-solid neighbours j of (p_i - p_j) = -(div u)_i        for every fluid cell i,

with unit spacing. A cell is fluid, air (p = 0: Dirichlet) or solid (no flow through its faces, so the pair is left out:
Neumann); outside of the box all is air, or all is solid. Rows and columns of cells that are not fluid are zero:
whatever the domain, A acts on the full grid, which is what a convolutional network wants to see. A is symmetric and
positive semi-definite. Its null space consists of the constants on every connected part of the fluid that touches no
air.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from scipy import ndimage
from torch import Tensor

from methods.shared.checks import check_option, check_sizes
from methods.shared.kernels.linear import linear

FLUID, AIR, SOLID = 0, 1, 2


class Poisson:
    """The matrix A, never stored: `A @ p` is a stencil of 5 or 7 points.

    Args:
        cells: (N, ..., N) integers FLUID, AIR or SOLID, in 2 or 3 dimensions.
        outside: AIR or SOLID, what surrounds the box.
        dtype, device: of the vectors that A will be applied to.

    Attributes:
        shape: of the grid. fluid: (*shape) bool. diagonal: (*shape), neighbours that are not solid; 0 off the fluid.
        sealed: parts of the fluid, each a bool mask (*shape), on which A is singular.
    """

    def __init__(
        self, cells: Tensor, outside: int = AIR, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> None:
        if cells.dim() not in (2, 3):
            raise ValueError(f"a grid has 2 or 3 dimensions, got cells of shape {tuple(cells.shape)}")
        if cells.is_floating_point() or not cells.numel() or not bool(((cells >= FLUID) & (cells <= SOLID)).all()):
            raise ValueError(f"cells are integers FLUID ({FLUID}), AIR ({AIR}) or SOLID ({SOLID}), one at least; got "
                             f"{cells.dtype} of shape {tuple(cells.shape)}, {cells.unique().tolist()[:9]}")  # fmt: skip
        if outside not in (AIR, SOLID):
            raise ValueError(f"outside of the box is AIR ({AIR}) or SOLID ({SOLID}), got {outside}")
        self.cells, self.outside, self.dtype, self.device = cells.cpu(), outside, dtype, torch.device(device)
        self.shape = tuple(cells.shape)
        fluid = self.cells == FLUID
        padded = np.pad(self.cells.numpy(), 1, constant_values=outside)
        self._open = [torch.from_numpy(_open_faces(padded, axis)) for axis in range(cells.dim())]
        count = sum(_below(faces, axis).int() + _above(faces, axis).int() for axis, faces in enumerate(self._open))
        self.diagonal = (count * fluid).to(self.device, dtype)
        self.fluid = fluid.to(self.device)
        self._mask = None if bool(fluid.all()) else self.fluid.to(dtype)
        self.sealed = [part.to(self.device) for part in _sealed_parts(padded)]

    @property
    def dim(self) -> int:
        return len(self.shape)

    @property
    def unknowns(self) -> int:
        return int(self.fluid.sum())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Poisson:
        return Poisson(self.cells, self.outside, dtype or self.dtype, device or self.device)

    def __matmul__(self, p: Tensor) -> Tensor:
        """(..., *shape) -> (..., *shape), zero off the fluid. Differentiable: its own adjoint, for A is symmetric."""
        if p.shape[-self.dim :] != self.shape:
            raise ValueError(f"A acts on grids of {self.shape} cells; got a tensor of shape {tuple(p.shape)}")
        return linear(p, self._apply, self._apply) if p.requires_grad else self._apply(p)

    def _apply(self, p: Tensor) -> Tensor:
        p = p if self._mask is None else p * self._mask
        out = self.diagonal * p
        for axis in range(-self.dim, 0):
            n = p.shape[axis] - 1
            out.narrow(axis, 1, n).sub_(p.narrow(axis, 0, n))
            out.narrow(axis, 0, n).sub_(p.narrow(axis, 1, n))
        return out if self._mask is None else out.mul_(self._mask)

    def project(self, v: Tensor) -> Tensor:
        """v (..., *shape) without what A cannot see: zero off the fluid, mean zero on every sealed part of it."""
        v = v if self._mask is None else v * self._mask
        for part in self.sealed:
            weights = part.to(v.dtype)
            over = tuple(range(-self.dim, 0))
            v = v - weights * ((v * weights).sum(over, keepdim=True) / weights.sum())
        return v

    def divergence(self, velocity: list[Tensor]) -> Tensor:
        """-div u in the fluid, (*shape): the right-hand side of a velocity.

        velocity: for each axis the component on its faces, of the grid's shape but one longer along the axis. Faces of
        solid cells let nothing through, so the result is orthogonal to the null space of A.
        """
        total = torch.zeros(self.shape, dtype=torch.float64)
        for axis, (u, faces) in enumerate(zip(velocity, self._open, strict=True)):
            flow = u.double() * faces
            total += _below(flow, axis) - _above(flow, axis)
        return self.project(total.to(self.device, self.dtype))

    def csr(self) -> scipy.sparse.csr_matrix:
        """The same matrix on the fluid cells alone, (unknowns, unknowns), float64, cells in row-major order."""
        number = torch.full(self.shape, -1, dtype=torch.int64)
        number[self.cells == FLUID] = torch.arange(self.unknowns)
        rows, columns = [], []
        for axis, n in enumerate(self.shape):
            one, two = number.narrow(axis, 0, n - 1).flatten(), number.narrow(axis, 1, n - 1).flatten()
            pairs = (one >= 0) & (two >= 0)
            rows += [one[pairs], two[pairs]]
            columns += [two[pairs], one[pairs]]
        row, column = torch.cat(rows).numpy(), torch.cat(columns).numpy()
        off = scipy.sparse.coo_matrix((-np.ones(len(row)), (row, column)), shape=(self.unknowns, self.unknowns))
        return (off + scipy.sparse.diags(self.diagonal[self.fluid].double().cpu().numpy())).tocsr()

    def wavefront(self) -> np.ndarray:
        """Sum of the coordinates of each fluid cell, (unknowns,): it grows from a cell to its later neighbours."""
        return np.indices(self.shape).sum(0)[self.cells.numpy() == FLUID]

    def vector(self, grid: Tensor) -> np.ndarray:
        """Values (*shape) at the fluid cells, (unknowns,), as `csr()` numbers them."""
        return grid[self.fluid].cpu().numpy()

    def grid(self, vector: np.ndarray) -> Tensor:
        """The inverse of `vector`: (*shape), zero off the fluid."""
        out = torch.zeros(self.shape, dtype=self.dtype)
        out[self.cells == FLUID] = torch.from_numpy(vector).to(self.dtype)
        return out.to(self.device)


def _open_faces(padded: np.ndarray, axis: int) -> np.ndarray:
    """Whether fluid may pass, for every face along an axis; shape: the grid's, one longer along the axis."""
    inner = [slice(1, -1)] * padded.ndim
    one, two = list(inner), list(inner)
    one[axis], two[axis] = slice(None, -1), slice(1, None)
    return (padded[tuple(one)] != SOLID) & (padded[tuple(two)] != SOLID)


def _below(faces: Tensor, axis: int) -> Tensor:
    return faces.narrow(axis, 0, faces.shape[axis] - 1)


def _above(faces: Tensor, axis: int) -> Tensor:
    return faces.narrow(axis, 1, faces.shape[axis] - 1)


def _sealed_parts(padded: np.ndarray) -> list[Tensor]:
    """Connected parts of the fluid without an air neighbour; `padded` has what is outside around it."""
    labels, count = ndimage.label(padded == FLUID)
    near_air = set(np.unique(labels[ndimage.binary_dilation(padded == AIR)])) if count else set()
    inner = (slice(1, -1),) * padded.ndim
    return [torch.from_numpy(labels[inner] == i) for i in range(1, count + 1) if i not in near_air]


# Obstacles as boxes (low corner, high corner) and balls (centre, radius; or semi-axes), in units of the box's side.
# In two dimensions the last coordinate is dropped: the plane through the middle.
_DISC = [((0.5, 0.5, 0.5), (1 / 6,) * 3)]
_ELLIPSE = [((0.5, 0.5, 0.5), (0.28, 0.12, 0.18))]
_BUNNY = [
    ((0.48, 0.36, 0.50), (0.17,) * 3),
    ((0.64, 0.55, 0.50), (0.10,) * 3),
    ((0.60, 0.70, 0.45), (0.05,) * 3),
    ((0.70, 0.69, 0.55), (0.05,) * 3),
    ((0.28, 0.30, 0.50), (0.06,) * 3),
]
_BOXES = [((0.20, 0.25, 0.25), (0.40, 0.45, 0.75)), ((0.60, 0.50, 0.25), (0.75, 0.85, 0.75))]

# name -> (obstacle, what it is made of, what is outside of the box). Networks are trained on "box" alone.
SYSTEMS: dict[str, tuple[str, int, int]] = {
    "box": ("", AIR, AIR),
    "disc": ("disc", AIR, AIR),
    "boxes": ("boxes", AIR, AIR),
    "ellipse": ("ellipse", SOLID, AIR),
    "bunny": ("bunny", SOLID, AIR),
    "sealed": ("bunny", SOLID, SOLID),
}


def system(name: str, size: int, dim: int = 2, device: torch.device | str = "cpu") -> Poisson:
    """One of SYSTEMS on a grid of size^dim cells, float64. "sealed" has solid walls all around: A is singular."""
    check_sizes("system", size=size)
    check_option("system", "dim", dim, (2, 3))
    if name not in SYSTEMS:
        raise ValueError(f"no system {name!r}; there are {', '.join(SYSTEMS)}")
    obstacle, made_of, outside = SYSTEMS[name]
    cells = torch.full((size,) * dim, FLUID)
    cells[inside(obstacle, size, dim)] = made_of
    return Poisson(cells, outside, device=device)


def inside(obstacle: str, size: int, dim: int) -> Tensor:
    """Cells of a grid of size^dim whose centre lies in the obstacle, bool; "" is no obstacle."""
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    x = torch.stack(torch.meshgrid(*[axis] * dim, indexing="ij"), dim=-1)
    found = torch.zeros(x.shape[:-1], dtype=torch.bool)
    for centre, radii in {"disc": _DISC, "ellipse": _ELLIPSE, "bunny": _BUNNY}.get(obstacle, []):
        found |= (((x - torch.tensor(centre[:dim])) / torch.tensor(radii[:dim])) ** 2).sum(-1) < 1
    for low, high in _BOXES if obstacle == "boxes" else []:
        found |= ((x > torch.tensor(low[:dim])) & (x < torch.tensor(high[:dim]))).all(-1)
    # balls that touch may lock in a cell, which would have no equation
    return torch.from_numpy(ndimage.binary_fill_holes(found.numpy()))


RIGHT_HAND_SIDES = ("blob", "modes", "noise")


def right_hand_side(A: Poisson, name: str, generator: torch.Generator) -> Tensor:
    """A right-hand side (*shape) in the range of A, with the norm 1. No network has seen any of them.

    "blob": -div of a rising puff, whose only component (along axis 1) is exp(-|x - x0|^2 / 2 s^2), s = N/10, x0 drawn
    from the middle half. "modes": -div of three waves of velocity, axis, wave numbers 1..4 and phases drawn. "noise":
    white.
    """
    if name == "noise":
        b = A.project(torch.randn(A.shape, generator=generator, dtype=torch.float64).to(A.device, A.dtype))
        return _unit(b)
    velocity = [torch.zeros(faces.shape, dtype=torch.float64) for faces in A._open]
    if name == "blob":
        centre = 0.25 + 0.5 * torch.rand(A.dim, generator=generator, dtype=torch.float64)
        x = _face_centres(A, 1)
        velocity[1] = torch.exp(-((x - centre) ** 2).sum(-1) / (2 * 0.1**2))
    elif name == "modes":
        for _ in range(3):
            along = int(torch.randint(A.dim, (), generator=generator))
            waves = torch.randint(1, 5, (A.dim,), generator=generator)
            phase = 2 * torch.pi * torch.rand(A.dim, generator=generator, dtype=torch.float64)
            velocity[along] += torch.cos(torch.pi * waves * _face_centres(A, along) + phase).prod(-1)
    else:
        raise ValueError(f"no right-hand side {name!r}; there are {', '.join(RIGHT_HAND_SIDES)}")
    return _unit(A.divergence(velocity))


def _unit(b: Tensor) -> Tensor:
    size = b.norm()
    if not size > 0:
        raise ValueError("the right-hand side is 0 everywhere: the grid has too little fluid for it")
    return b / size


def _face_centres(A: Poisson, along: int) -> Tensor:
    """Coordinates of the faces along an axis, in units of the box's side: (*shape of the faces, dim)."""
    axes = [
        torch.arange(n + 1, dtype=torch.float64) / n if axis == along else (torch.arange(n).double() + 0.5) / n
        for axis, n in enumerate(A.shape)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
