"""Message: an English text that a page can still translate."""

from typing import Self


class Message(str):
    """A formatted English text that keeps its template and its values; the template is the key of the translation."""

    template: str
    values: dict[str, object]

    def __new__(cls, template: str, **values: object) -> Self:
        """Format the template; a text without values is used as it is."""
        message = super().__new__(cls, template.format(**values) if values else template)
        message.template, message.values = template, values
        return message
