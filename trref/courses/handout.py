"""What is handed out of an exercise: a starter file and its visible test, a notebook, or a file with a mistake."""

from trref.courses import bugs, notebooks
from trref.courses.starter import code, introduction
from trref.courses.worked import test_code

__all__ = ["files", "put", "write"]


def files(exercise, *, notebook=False):
    """Return name -> text of what is handed out."""
    if exercise.bug:
        return {f"{exercise.stem}.py": bugs.handed_out(exercise)}
    if notebook:
        return {f"{exercise.stem}.ipynb": notebooks.text(exercise)}
    head = introduction(exercise).replace("\\", "\\\\").replace('"""', "'''")
    return {
        f"{exercise.stem}.py": f'"""{head}\n"""\n\n{code(exercise)}',
        f"test_{exercise.stem}.py": test_code(exercise),
    }


def write(exercise, folder, *, notebook=False):
    """Write the starter file and its visible test, or a notebook; return the paths.

    Raises
    ------
    FileExistsError
        A file of a student is never written over.
    """
    return put(folder, files(exercise, notebook=notebook))


def put(folder, texts):
    """Write files that are not there yet; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in texts]
    if there := [str(p) for p in paths if p.exists()]:
        raise FileExistsError(
            f"{', '.join(there)}: there already, and not written over"
        )
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths
