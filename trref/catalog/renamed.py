"""What catalogued functions were called before: old name -> new name. ``CHANGELOG.md`` lists the same."""

RENAMED = {}
