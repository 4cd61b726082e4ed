"""SHOW: the data of every figure and report is made once; terminal, Markdown, notebook and page draw it."""
