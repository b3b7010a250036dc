import Isolation
import Replication

/// The part of a hand-off that is about the SMI's memory, at the source.
package protocol DepartingMemory: Sendable {
    /// Brings the destination's replica as near as it pays while the SMI runs; `slow` is called where it has to run slower
    /// for that, `ready` before the last rounds with what is to be prepared then.
    func warm(
        slow: @escaping MemoryOwner.Slowing,
        ready: @escaping @Sendable (@escaping CarriedCut.Preparing) async throws -> Void
    ) async throws -> Warmth
    /// Lets `body` checkpoint the SMI with its memory left to us; the cut's frames leave while it goes on.
    func cutting(
        _ body: @escaping @Sendable (CarriedCut) async throws -> CheckpointReport
    ) async throws -> CheckpointReport
    /// Waits until the cut has been handed to the transport.
    func sent() async throws -> MemoryCut
    /// The hand-off failed: the SMI goes on here.
    func stays() async
    /// The destination runs the SMI: gives it the pages that the cut has left, until it has all of them.
    func supply() async -> LateSupply.End
}

/// The same at the destination.
package protocol ArrivingMemory: Sendable {
    /// Has the pages ready to be served, before the restore.
    func listen() async throws
    /// The processes are there, frozen: their writes are tracked from now on, beside whatever else is done.
    func frozen(_ processes: @escaping @Sendable () -> [NamespacedPid])
    /// The processes are about to go on.
    func resuming() async
}

/// What hand-offs and the agent ask of whoever keeps the memory of SMIs and its replicas.
package protocol MemoryKeeping: Sendable {
    /// Begins the hand-off of an SMI that runs here.
    func depart(_ record: SMIRecord, to destination: HostRecord) async throws -> any DepartingMemory
    /// Makes ready, before the freeze, for an SMI that will be restored here.
    func stage(_ user: String) async
    /// Gives up what `stage` and `arrive` have made ready: the SMI is not restored here.
    func discard(_ user: String) async
    /// Waits until an epoch has come in whole, and takes the replica over for the restore.
    func arrive(_ user: String, epoch: UInt64) async throws -> any ArrivingMemory
    /// An SMI runs here from now on.
    func began(_ record: SMIRecord) async
    /// An SMI does not run here any more; what is here of its memory stays, as a replica.
    func ended(_ user: String) async
    /// The processes of an SMI that has ended here are gone, too, or are about to go on here.
    func left(_ user: String) async
    /// Looks again at which replicas an SMI of this host shall have.
    func replicasChanged(_ user: String) async
    /// Waits until the memory of an SMI that runs here is all here.
    func settled(_ user: String) async
    /// Whether the memory that is here lacks pages that the host has from which the SMI came.
    func isLacking(_ user: String) async -> Bool
    /// Gives the frozen copy's pages to the host where the SMI runs, after a restart of this daemon.
    func supplyAgain(_ record: SMIRecord, to destination: HostRecord) async -> LateSupply.End
    /// The SMI does not go on here, but where it came from, as it was at the freeze.
    func giveBack(_ user: String) async
    /// How far the connected replicas of an SMI of this host are.
    func status(_ user: String) async -> [ReplicaStatus]
    /// Deletes what is here of SMIs that neither run here nor need a replica here; once per start of the daemon.
    func sweep(running: Set<String>) async
    /// Nobody needs an SMI's memory any more, here or on other hosts.
    func forget(_ user: String) async
}
