import Isolation

/// What the source tells the destination first.
package struct HandoffPreparation: Sendable {
    package var user: String
    package var spec: SandboxSpec
    /// The generation that the source owns.
    package var generation: Int
    /// Revision of the SMI's record in the store: the destination's compare-and-swap expects it.
    package var recordRevision: Int64
    package var source: String
}

/// Which stream a chunk of a cut belongs to.
package enum CutStream: Sendable, Hashable, CaseIterable {
    /// CRIU's images: process state, and what memory is not in backing files.
    case state
    /// The writable layer of the rootfs.
    case files
}

/// How a hand-off ended at the destination.
package enum HandoffOutcome: Sendable {
    /// The SMI runs there; milliseconds of the destination's phases.
    case resumed(phases: [String: Double])
    /// The destination gave up and will never commit this attempt.
    case refused(OrchestratorError)
}

/// The source's connection to the destination of one hand-off; calls are made one after the other.
///
/// Every call throws `OrchestratorError` when contact is lost; none of them retries.
package protocol HandoffLink: Sendable {
    /// Asks the destination to stage; returns its outcome early where it refuses.
    func prepare(_ preparation: HandoffPreparation) async throws -> HandoffOutcome?
    /// Sends one chunk of a stream; waits while the link is behind. Returns the bytes that it takes on the wire.
    func send(_ stream: CutStream, _ bytes: [UInt8]) async throws -> Int
    /// Says that the cut is whole, with the epoch of memory that belongs to it, if any. From the moment this is called the
    /// destination may commit.
    func complete(bytes: [CutStream: Int64], memoryEpoch: UInt64?) async throws
    /// Waits for the end.
    func outcome() async throws -> HandoffOutcome
    /// Gives up, where the other side still listens, and ends the connection.
    func close(abandoning reason: OrchestratorError?) async
}

/// What a peer has of an SMI.
package struct PeerSMIStatus: Sendable {
    package var present: Bool
    package var generation: Int
    /// True once the processes of that generation were resumed there.
    package var resumed: Bool
    /// True while it lacks pages that the host has from which the SMI came.
    package var lacksPages = false
}

/// What one daemon asks of another.
package protocol PeerCalls: Sendable {
    /// Opens a hand-off to a host.
    func openHandoff(to host: HostRecord) async throws -> any HandoffLink
    /// What the host has of an SMI.
    func status(of user: String, at host: HostRecord) async throws -> PeerSMIStatus
    /// Forwards a control request; `timeout` bounds the answer.
    func call(_ method: ControlMethod, _ json: [UInt8], at host: HostRecord, timeout: Duration) async throws -> [UInt8]
    /// Forwards a control request that answers with any number of documents.
    func stream(
        _ method: ControlMethod,
        _ json: [UInt8],
        at host: HostRecord,
        _ document: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws
    /// The pid of the host's daemon: a sign of life.
    func pid(of host: HostRecord, timeout: Duration) async throws -> Int32
    /// Brings a base image over, into the local image store.
    func fetchImage(_ digest: String, from host: HostRecord) async throws
}
