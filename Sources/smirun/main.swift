print("smirun")
