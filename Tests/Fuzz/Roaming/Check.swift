/// What must hold of every record, whatever it was made of.
func check(_ records: [RoamingRecord]) {
    for record in records {
        require(record.time.isFinite && !record.user.isEmpty && !record.ap.isEmpty, "a record is whole")
        require(RoamingDirectory.isUser(record.user), "a record is of a user")
    }
}

/// A precondition that says its name in optimised builds too.
func require(_ condition: Bool, _ rule: String) {
    guard !condition else { return }
    fatalError(rule)
}
