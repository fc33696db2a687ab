r"""Geodesics on the Stiefel manifold: of the Euclidean and of the canonical metric, in closed form.

The exponential map follows the geodesic from :math:`X` with velocity :math:`\xi` for unit time. In the Euclidean metric
it is, with :math:`A = X^\top \xi` and :math:`S = \xi^\top \xi`,

.. math:: \mathrm{Exp}_X(\xi) = [X \;\; \xi] \exp\begin{pmatrix} A & -S \\ I & A \end{pmatrix}
    \begin{pmatrix} e^{-A} \\ 0 \end{pmatrix} .

Both metrics have an equal form with nothing but exponentials of skew matrices, which is used here. With the thin QR
decomposition of the part that leaves the span,

.. math::
    :label: stiefel-exponential-split

    A = \mathrm{skew}(X^\top \xi), \qquad QB = (I - XX^\top)\, \xi ,

the geodesics are

.. math::
    :label: stiefel-exponential-canonical

    \mathrm{Exp}^c_X(\xi) = [X \;\; Q] \exp\begin{pmatrix} A & -B^\top \\ B & 0 \end{pmatrix}
    \begin{pmatrix} I \\ 0 \end{pmatrix}

.. math::
    :label: stiefel-exponential-euclidean

    \mathrm{Exp}^e_X(\xi) = [X \;\; Q] \exp\begin{pmatrix} 2A & -B^\top \\ B & 0 \end{pmatrix}
    \begin{pmatrix} I \\ 0 \end{pmatrix} e^{-A}

A skew matrix :math:`M` has the Hermitian multiple :math:`iM = V \Lambda V^*`, so

.. math::
    :label: stiefel-exponential-skew

    e^M = \mathrm{Re}\; V e^{-i\Lambda} V^* .

On the sphere (:math:`p = 1`) both are :math:`\cos(\|\xi\|) X + \sin(\|\xi\|)\, \xi / \|\xi\|`; for square frames both
are :math:`X e^{X^\top\xi}`.

**Where implementations differ.** pymanopt and geoopt take the first form, whose :math:`2p \times 2p` block matrix is
not normal; a general matrix exponential by scaling and squaring loses digits there for long steps, and the result
drifts off the manifold. The skew form is orthonormal to rounding for steps of any length.

**Provenance.** Confirmed: the first form in pymanopt and geoopt, the canonical one in Edelman, Arias and Smith
(textbook); the skew form of the Euclidean geodesic as in Zimmermann and Hüper, 2022, from memory, compared with the
first form in scipy.linalg.expm.

Edelman, Arias and Smith, *The Geometry of Algorithms with Orthogonality Constraints*, 1998, arXiv:physics/9806030.
"""

from trref.backend import linalg, xp
from trref.manifolds.terms import Metric
from trref.signature import Lead, N, Orthonormal, P, Real, checked


@checked
def exponential(
    x: Orthonormal[Lead, N, P],
    z: Real[Lead, N, P],
    *,
    metric: Metric = "euclidean",
) -> Orthonormal[Lead, N, P]:
    """Follow the geodesic from x with velocity z for unit time.

    Parameters
    ----------
    x
        A frame.
    z
        A tangent vector. Of another matrix the symmetric part of xᵀ z is ignored.
    """
    # eq. stiefel-exponential-split
    M = x.mT @ z
    A = (M - M.mT) / 2
    Q, B = linalg.qr(z - x @ M)

    basis, zero = xp.concatenate([x, Q], -1), xp.zeros_like(A)
    turn = A if metric == "canonical" else 2 * A
    block = xp.concatenate(
        [xp.concatenate([turn, -B.mT], -1), xp.concatenate([B, zero], -1)], -2
    )
    # eq. stiefel-exponential-canonical
    end = basis @ expm_skew(block)[..., : A.shape[-1]]

    # eq. stiefel-exponential-euclidean
    return end if metric == "canonical" else end @ expm_skew(-A)


def expm_skew(M):
    """Exponential of skew-symmetric matrices (…, k, k)."""
    # eq. stiefel-exponential-skew
    eigenvalues, V = linalg.eigh(1j * M)
    turned = V * xp.exp(-1j * eigenvalues)[..., None, :]
    return xp.real(turned @ xp.conj(V).mT)
