# Turns Debian's changelog into that of an RPM.
/^[a-z]/ { version = substr($2, 2, length($2) - 2); text = ""; next }
/^ -- / {
	match($0, />  /)
	split(substr($0, RSTART + RLENGTH), date, /[ ,]+/)
	printf "* %s %s %s %s %s - %s-1\n%s\n", date[1], date[3], date[2], date[4], substr($0, 5, RSTART - 4), version, text
}
/^  \* / { text = text "- " substr($0, 5) "\n" }
/^    / { text = text "  " substr($0, 5) "\n" }
