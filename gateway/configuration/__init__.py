"""Configuration as one document: read, check, compare with the database, apply, export.

Every step but two is pure: `document` turns text into plain data with positions, `statement` into what the author
wants, `difference` compares that with an `image` of the database. Only `image.load` reads rows and only `importing`
writes them, in one transaction, so a document with an error changes nothing.
"""
