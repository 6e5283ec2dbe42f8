"""What the HTML reports of several rooms share: plots as SVG, the style, and how a page is made."""
