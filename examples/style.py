"""How the pictures of the examples look: settings of matplotlib, and colours."""

# Okabe and Ito's: told apart by all eyes.
BLUE, ORANGE, GREEN, PURPLE, YELLOW = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
SKY, GREY = "#56b4e9", "#999999"

DIAGRAMS = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 13,
    "legend.frameon": False,
}
MAPS = {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"}
