"""Self-contained HTML reports: one over a run (`write_report`), one over several seeds (`write_study`)."""

from distwm.report.study import write_study
from distwm.report.write import write_report

__all__ = ["write_report", "write_study"]
