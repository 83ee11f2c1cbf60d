package stopguard.text_test

import data.stopguard.text

test_quoted if {
	text.quoted("billing primary") == "billing primary"
	text.quoted("x (rule none)") == `"x (rule none)"`
}
