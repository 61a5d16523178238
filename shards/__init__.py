"""The cache on disk: what it promises, how it is written, verified and read back (see docs/design.md).

layout.py and identity.py (where and what everything is), documents.py and sealed.py (what its JSON files hold),
commit.py, lock.py, tar.py, zarrs.py (how it is written), views/ and codecs/ (what lies inside), reader.py,
mapped.py, order.py, loader.py (how it is read), verify/, listing.py, export.py, contact_sheet.py, remove.py
(the commands), command/ (what every command line shares).
"""
