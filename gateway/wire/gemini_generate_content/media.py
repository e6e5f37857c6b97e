"""Pictures, sound and files in Google's JSON: `inlineData` and `fileData`. Pure.

Gemini fetches public and signed addresses itself (https://ai.google.dev/gemini-api/docs/file-input-methods), so an
address goes out as `fileUri`. Only what lies in its own file store is a file of its own.
"""

import posixpath
from urllib.parse import urlsplit

from gateway.wire.canonical import Audio, Document, FileId, Image, Inline, Json, Source, Url
from gateway.wire.codec import Unsupported
from gateway.wire.fields import InvalidRequest
from gateway.wire.gemini_generate_content.fieldnames import NAME, a_text, pick

OWN_HOST = "generativelanguage.googleapis.com"
FETCHED = ("http://", "https://", "gs://")
# By the name's end, for Gemini wants to know it and other dialects do not tell.
TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".html": "text/html",
    ".wav": "audio/wav",
    ".mp3": "audio/mp3",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
# By how its base64 begins.
BEGINNINGS = {
    "/9j/": "image/jpeg",
    "iVBOR": "image/png",
    "R0lG": "image/gif",
    "UklGR": "image/webp",
    "JVBERi": "application/pdf",
}

STANDARD_ALPHABET = str.maketrans("-_", "+/")

Media = Image | Audio | Document


def inline_part(blob: Json, path: str) -> Media:
    """Return the part that an `inlineData` is; raise InvalidRequest."""
    media_type = a_text(pick(blob, "mimeType"), f"{path}.mimeType")
    # Google takes either alphabet of base64, and its SDK for Python sends the one that no other vendor reads.
    source = Inline(media_type, a_text(blob.get("data"), f"{path}.data").translate(STANDARD_ALPHABET))
    return _part(source, media_type, a_text(pick(blob, "displayName"), f"{path}.displayName"))


def file_part(file: Json, path: str) -> Media:
    """Return the part that a `fileData` is; raise InvalidRequest."""
    address = a_text(pick(file, "fileUri"), f"{path}.fileUri")
    media_type = a_text(pick(file, "mimeType"), f"{path}.mimeType")
    if not address:
        raise InvalidRequest("invalid_parameter", f"{path}.fileUri is missing.", f"{path}.fileUri")
    source: Source = Url(address)
    if _is_own(address):
        source = FileId(NAME, f"{media_type} {address}".strip())
    name = a_text(pick(file, "displayName"), f"{path}.displayName")
    return _part(source, media_type or _type_of(address), name)


def _part(source: Source, media_type: str, name: str) -> Media:
    if media_type.startswith("image/"):
        return Image(source)
    if media_type.startswith("audio/"):
        return Audio(source)
    return Document(source, name=name)


def rendered(source: Source, path: str) -> Json:
    """Return the part for Gemini that brings a source; raise Unsupported."""
    match source:
        case Inline(media_type=media_type, data=data):
            media_type = media_type or next((BEGINNINGS[each] for each in BEGINNINGS if data.startswith(each)), "")
            if not media_type:
                raise Unsupported(f"{path}: Gemini has to be told the media type of a file; name it.", path)
            return {"inlineData": {"mimeType": media_type, "data": data}}
        case FileId(origin=origin, id=id):
            if origin != NAME:
                raise Unsupported(
                    f"{path}: the file is kept by another vendor than the model's. Send its bytes or an address.", path
                )
            media_type, _, address = id.rpartition(" ")
            return _file(address, media_type)
        case _:
            url = source.url
            if not url.startswith(FETCHED):
                raise Unsupported(f"{path}: Gemini fetches http, https and gs addresses only. Send the bytes.", path)
            return _file(url, _type_of(url))


def _file(address: str, media_type: str) -> Json:
    return {"fileData": {"fileUri": address} | ({"mimeType": media_type} if media_type else {})}


def _is_own(address: str) -> bool:
    """Tell whether an address is one of Gemini's own file store; a bare `files/…` is how its API names them."""
    if address.startswith("files/"):
        return True
    try:
        parts = urlsplit(address)
        return parts.hostname == OWN_HOST and "/files/" in parts.path
    except ValueError:
        return False


def _type_of(address: str) -> str:
    try:
        path = urlsplit(address).path
    except ValueError:
        return ""
    return TYPES.get(posixpath.splitext(path)[1].lower(), "")
