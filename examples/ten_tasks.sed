# What ten_tasks.sh prints, without the folder and the seconds of one machine.
s|arrays:/.*/|arrays:|
s/[0-9]+ s of training/N s of training/
s/\([0-9]+ ms\)/(N ms)/
/^\| seconds/s/[0-9]+[0-9.]* +/N /g
s/\| [0-9]+ \|$/| N |/
s/^[0-9]+ CPU cores .*, noisynets [^ ]+\. /(machine and versions) /
