"""Content of data/finance_qa.json: hand-written concepts and families of calculations."""
