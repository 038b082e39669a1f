"""Documents of the scripted backend: as ingest makes them of Python's documentation, with planned verdicts."""

from __future__ import annotations

import msgspec

QUERY = "how do I read a large file line by line without loading it all"
DOCS = "https://docs.python.org/3/library"

LABELS = {0: (0.86, 0.1, 0.04), 1: (0.15, 0.7, 0.15), 2: (0.04, 0.14, 0.82)}


class Document(msgspec.Struct, frozen=True):
    """One hit in engine order, and what the model will say of it."""

    id: str
    title: str
    body: str
    label: int
    quote: str
    explanation: str = ""
    url: str | None = None
    grounded: bool = True

    @property
    def source(self) -> dict[str, str]:
        source = {"title": self.title, "body": self.body}
        return source if self.url is None else {**source, "url": self.url}

    @property
    def said(self) -> str:
        return self.explanation or f"The document states “{self.quote}”."


PYTHON_DOCS = (
    Document(
        "linecache",
        "linecache — Random access to text lines",
        "The linecache module allows one to get any line from a Python source file, while attempting to optimize "
        "internally, using a cache, the common case where many lines are read from a single file. This is used by the "
        "traceback module to retrieve source lines for inclusion in the formatted traceback. The tokenize.open() "
        "function is used to open files.",
        1,
        "get any line from a Python source file",
        "It reads single lines by number out of a cached file, so it is about lines and files, but the whole file is "
        "held in memory: “get any line from a Python source file”.",
        f"{DOCS}/linecache.html",
    ),
    Document(
        "fileinput",
        "fileinput — Iterate over lines from multiple input streams",
        "This module implements a helper class and functions to quickly write a loop over standard input or a list of "
        "files. If you just want to read or write one file see open(). The typical use is: import fileinput; for line "
        "in fileinput.input(encoding='utf-8'): process(line). This iterates over the lines of all files listed in "
        "sys.argv[1:], defaulting to sys.stdin if the list is empty.",
        2,
        "This iterates over the lines of all files listed in sys.argv[1:]",
        "It loops over the lines of files one after the other and never needs a whole file at once, which is what is "
        "asked: “This iterates over the lines of all files listed in sys.argv[1:]”.",
        f"{DOCS}/fileinput.html",
    ),
    Document(
        "mmap",
        "mmap — Memory-mapped file support",
        "Memory-mapped file objects behave like both bytearray and like file objects. You can use mmap objects in most "
        "places where bytearray are expected; for example, you can use the re module to search through a memory-mapped "
        "file. readline() returns a single line, starting at the current file position and up to the next newline.",
        1,
        "returns a single line, starting at the current file position",
        url=f"{DOCS}/mmap.html",
    ),
    Document(
        "csv",
        "csv — CSV File Reading and Writing",
        "The so-called CSV (Comma Separated Values) format is the most common import and export format for "
        "spreadsheets and databases. The csv module's reader and writer objects read and write sequences. Each row "
        "read from the csv file is returned as a list of strings.",
        0,
        "the most common import and export format for spreadsheets and databases",
        "The page is about spreadsheets and databases in CSV; reading a large text file by lines is not its subject.",
        f"{DOCS}/csv.html",
    ),
    Document(
        "tarfile",
        "tarfile — Read and write tar archive files",
        "The tarfile module makes it possible to read and write tar archives, including those using gzip, bz2 and lzma "
        "compression. Use the zipfile module to read or write .zip files, or the higher-level functions in shutil.",
        0,
        "read and write tar archives",
        url=f"{DOCS}/tarfile.html",
    ),
    Document(
        "tempfile",
        "tempfile — Generate temporary files and directories",
        "This module creates temporary files and directories. It works on all supported platforms. "
        "SpooledTemporaryFile operates exactly as TemporaryFile() does, except that data is spooled in memory until "
        "the file size exceeds max_size, or until the file's fileno() method is called.",
        0,
        "This module creates temporary files and directories",
        url=f"{DOCS}/tempfile.html",
        grounded=False,
        explanation="The document states “temporary files are always read by lines”.",
    ),
    Document(
        "inputoutput",
        "Input and Output: Methods of File Objects",
        "The rest of the examples in this section will assume that a file object called f has already been created. "
        "f.readline() reads a single line from the file; a newline character is left at the end of the string. For "
        "reading lines from a file, you can loop over the file object.  This is memory efficient,\n   fast, and leads "
        "to simple code: for line in f: print(line, end=''). If you want to read all the lines of a file in a list you "
        "can also use list(f) or f.readlines().",
        2,
        "you can loop over the file object. This is memory efficient, fast, and leads to simple code",
        "It answers directly: “you can loop over the file object. This is memory efficient, fast, and leads to simple "
        "code”, so a large file is read line by line without being held in memory.",
        "https://docs.python.org/3/tutorial/inputoutput.html",
    ),
    Document(
        "gzip",
        "gzip — Support for gzip files",
        "This module provides a simple interface to compress and decompress files just like the GNU programs gzip and "
        "gunzip would. The data compression is provided by the zlib module. Opening a file in text mode wraps the "
        "GzipFile object in an io.TextIOWrapper, which can be iterated by lines.",
        1,
        "which can be iterated by lines",
        url=f"{DOCS}/gzip.html",
    ),
    Document(
        "io",
        "io — Core tools for working with streams",
        "The io module provides Python's main facilities for dealing with various types of I/O. IOBase (and its "
        "subclasses) supports the iterator protocol, meaning that an IOBase object can be iterated over yielding the "
        "lines in a stream. Lines are defined slightly differently depending on whether the stream is binary or text.",
        2,
        "an IOBase object can be iterated over yielding the lines in a stream",
        url=f"{DOCS}/io.html",
    ),
    Document(
        "shelve",
        "shelve — Python object persistence",
        "A “shelf” is a persistent, dictionary-like object. The difference with “dbm” databases is that the values "
        "(not the keys!) in a shelf can be essentially arbitrary Python objects — anything that the pickle module can "
        "handle.",
        0,
        "persistent, dictionary-like object",
        url=f"{DOCS}/shelve.html",
    ),
    Document(
        "pathlib",
        "pathlib — Object-oriented filesystem paths",
        "This module offers classes representing filesystem paths with semantics appropriate for different operating "
        "systems. Path.read_text() returns the decoded contents of the pointed-to file as a string. The file is opened "
        "and then closed.",
        0,
        "returns the decoded contents of the pointed-to file as a string",
        url=f"{DOCS}/pathlib.html",
    ),
    Document(
        "itertools",
        "itertools — Functions creating iterators for efficient looping",
        "This module implements a number of iterator building blocks. islice(iterable, stop) makes an iterator that "
        "returns selected elements, for example the first lines of a file, without reading the rest of it.",
        2,
        "the first lines of a file, without reading the rest of it",
        url=f"{DOCS}/itertools.html",
    ),
)
