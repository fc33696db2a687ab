r"""Geodesics on the Stiefel manifold: of the Euclidean and of the canonical metric, in closed form.

The exponential map follows the geodesic from :math:`X` with velocity :math:`\xi` for unit time. In the Euclidean metric
it is, with :math:`A = X^\top \xi` and :math:`S = \xi^\top \xi`,

.. math:: \mathrm{Exp}_X(\xi) = [X \;\; \xi] \exp\begin{pmatrix} A & -S \\ I & A \end{pmatrix}
    \begin{pmatrix} e^{-A} \\ 0 \end{pmatrix} .

Both metrics have an equal form with nothing but exponentials of skew matrices, which is used here. With an orthonormal
basis of the columns of :math:`X` and :math:`\xi`,

.. math::
    :label: stiefel-exponential-split

    [X \;\; \xi] = QR, \qquad G = Q^\top X, \quad H = Q^\top (I - \tfrac12 XX^\top)\, \xi, \quad
    M = HG^\top - GH^\top, \quad A = \mathrm{skew}(X^\top \xi),

the geodesics are

.. math::
    :label: stiefel-exponential-canonical

    \mathrm{Exp}^c_X(\xi) = Q\, e^M G

.. math::
    :label: stiefel-exponential-euclidean

    \mathrm{Exp}^e_X(\xi) = Q\, e^{M + GAG^\top} G\, e^{-A} .

If the basis begins with :math:`X`, then :math:`M` is the textbook's :math:`\begin{pmatrix} A & -B^\top \\ B & 0
\end{pmatrix}`. There the rest of the basis comes from :math:`QB = (I - XX^\top)\xi`; where that is rounding, as of a
long step within the span of :math:`X`, it is not orthogonal to :math:`X`.

A skew matrix :math:`M` has the Hermitian multiple :math:`iM = V \Lambda V^*`, so

.. math::
    :label: stiefel-exponential-skew

    e^M = \mathrm{Re}\; V e^{-i\Lambda} V^* .

Computed angles are off by :math:`\epsilon \|M\|`, differently for :math:`\lambda` and :math:`-\lambda`, and what is
left of the imaginary part is missing in the real one. A step of Newton's method for the polar factor squares the error,

.. math::
    :label: stiefel-exponential-polar

    E \leftarrow \tfrac12 E\, (3I - E^\top E) .

On the sphere (:math:`p = 1`) both are :math:`\cos(\|\xi\|) X + \sin(\|\xi\|)\, \xi / \|\xi\|`; for square frames both
are :math:`X e^{X^\top\xi}`.

**Where implementations differ.** pymanopt and geoopt take the first form, whose :math:`2p \times 2p` block matrix is
not normal; a general matrix exponential by scaling and squaring loses digits there for long steps, and the result
drifts off the manifold. The skew form is orthonormal to rounding. Steps beyond 1e10, whose angles nobody knows to six
digits, are refused.

**Provenance.** Confirmed: the first form in pymanopt and geoopt, the canonical one in Edelman, Arias and Smith
(textbook); the skew form of the Euclidean geodesic as in Zimmermann and Hüper, 2022, from memory, compared with the
first form in scipy.linalg.expm.

Edelman, Arias and Smith, *The Geometry of Algorithms with Orthogonality Constraints*, 1998, arXiv:physics/9806030.
"""

from trref.backend import linalg, xp
from trref.manifolds.terms import Metric, angles_known, span
from trref.signature import Lead, N, Orthonormal, P, Real, checked


@checked(also=angles_known)
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
    A = x.mT @ z
    A = (A - A.mT) / 2
    Q, G = span(x, z)
    H = Q.mT @ (z - x @ (x.mT @ z) / 2)
    M = H @ G.mT - G @ H.mT
    if metric == "canonical":
        return Q @ turn(M) @ G  # eq. stiefel-exponential-canonical
    # eq. stiefel-exponential-euclidean
    return Q @ turn(M + G @ A @ G.mT) @ G @ turn(-A)


def turn(M, angle=lambda size: size):
    """Return the orthogonal function V e^(-iΘ) V* of skew matrices (…, k, k) with iM = V Λ V*, Θ the angles of Λ."""
    # eq. stiefel-exponential-skew
    size, V = linalg.eigh(1j * M)
    turned = V * xp.exp(-1j * angle(size))[..., None, :]
    E = xp.real(turned @ xp.conj(V).mT)
    # eq. stiefel-exponential-polar
    return E @ (3 * xp.eye(E.shape[-1], dtype=E.dtype) - E.mT @ E) / 2
