"""Wrong values of keys of referring expressions, in the form of `VALUES` in tests/bad_inputs.py."""

REFER = """
data=scenes_refer method=cpt shots: -2 1.5 abc
data=scenes_refer method=cpt data.source.domain: 5
data=scenes_refer method=cpt data.source.proposals: drawn 5
data=scenes_refer method=cpt +data.views: 2 | data.views
data=refcoco method=cpt data.source.disk.proposals: drawn 5
data=refcoco method=cpt data.source.disk.without: nothing
data=refcoco method=cpt data.source.disk.shared: keep
data=refcoco method=cpt source: hub 5
"""
