import Isolation

/// What a daemon does at its start with one SMI that it finds on its host.
package enum AdoptionDecision: Sendable, Equatable {
    /// We own it and its processes are here: thaw and go on.
    case adopt
    /// We own it, nothing runs, and a whole cut is here: restore it again.
    case restoreAgain
    /// We own it and neither processes nor a cut are left: the machine was restarted or the processes were killed.
    case lost
    /// Another host owns it: our copy stays frozen until that host says that it runs there, then it is destroyed.
    case awaitResumed(owner: String)
    /// Nobody owns it, or its launch never ended: destroy what is left.
    case destroy
    /// We own it and it was stopped on purpose: the files are kept, nothing runs.
    case keepStopped
}

/// Decides from the store's record and from what is on the host; pure.
///
/// - Parameters:
///   - record: The store's record of the user, nil where there is none.
///   - host: The name of this host.
///   - processes: How many processes the sandbox's cgroup holds.
///   - hasCut: Whether the images of a whole cut are here.
/// - Returns: What to do.
package func decideAdoption(
    record: SMIRecord?,
    host: String,
    processes: Int,
    hasCut: Bool
) -> AdoptionDecision {
    guard let record else { return .destroy }
    guard record.host == host else {
        return processes > 0 ? .awaitResumed(owner: record.host) : .destroy
    }
    switch record.state {
    case .launching: return .destroy
    case .stopped: return .keepStopped
    case .running where processes > 0: return .adopt
    case .running: return hasCut ? .restoreAgain : .lost
    }
}
