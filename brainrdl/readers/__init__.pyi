from .reading import (
    GROUP as GROUP,
    Reader as Reader,
    find_readers as find_readers,
    read as read,
)
