"""The page's template, style and script, as files of the package."""
