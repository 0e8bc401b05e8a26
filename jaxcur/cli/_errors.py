"""What a command raises when the user can put it right."""


class CommandError(Exception):
    """A mistake in the input; the message is one line and says what to do."""

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))
