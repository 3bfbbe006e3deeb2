"""A report: what a model learned, measured, drawn and put into words on one page.

The page needs the extra `report`; `keras-vae report NAME --out FOLDER` writes it.
"""

from keras_vae.report.writer import write_report

__all__ = ["write_report"]
