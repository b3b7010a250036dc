import BackingStore
import Isolation
import Replication

/// The memory of one SMI in a hand-off from here.
struct Departure: DepartingMemory {
    let owner: MemoryOwner
    let service: MemoryService
    let record: SMIRecord
    let destination: HostRecord
    private let course = Course()

    init(owner: MemoryOwner, service: MemoryService, record: SMIRecord, destination: HostRecord) {
        self.owner = owner
        self.service = service
        self.record = record
        self.destination = destination
    }

    private var host: String { destination.name }

    func warm(
        slow: @escaping MemoryOwner.Slowing,
        ready: @escaping @Sendable (@escaping CarriedCut.Preparing) async throws -> Void
    ) async throws -> Warmth {
        let owner = owner
        let warmth = try await owner.warm(host, slow: slow) {
            try await ready { processes, directory in
                // A process without its copy is dumped whole.
                for process in processes { try? CarriedMemory.copySmaps(of: process.flushed.hostPid, to: directory) }
            }
        }
        await course.set(warmth.mode)
        return warmth
    }

    func cutting(
        _ body: @escaping @Sendable (CarriedCut) async throws -> CheckpointReport
    ) async throws -> CheckpointReport {
        let (report, sending) = try await owner.cutting(to: host, late: course.mode == .postcopy) { maker in
            try await body(
                CarriedCut(
                    prepare: { maker.prepare($0.map(\.flushed), directory: $1) },
                    take: { try maker.cut($0.map(\.flushed), directory: $1) }
                )
            )
        }
        await course.set(sending)
        return report
    }

    func sent() async throws -> MemoryCut {
        guard let sending = await course.sending else {
            throw ReplicaError(cause: "there is no cut to send", remedy: "start the hand-off again")
        }
        let cut = try await sending.finished().get()
        guard !cut.latePages.isEmpty else { return cut }
        let supply = await LateSupply(
            service.supplySurroundings(record, to: destination),
            pages: owner.frozenPages(),
            late: cut.latePages,
            hot: cut.hotPages,
            over: owner.takeLink(host),
            keeping: owner.directory
        )
        await course.set(supply)
        await service.begin(supply, of: record.user)
        return cut
    }

    func supply() async -> LateSupply.End {
        guard let supply = await course.supply else { return .whole }
        await supply.push()
        let end = await supply.finished()
        await service.endSupply(of: record.user)
        return end
    }

    func stays() async {
        if let supply = await course.supply {
            await supply.abandon()
            await service.endSupply(of: record.user)
        }
        await owner.stays(isReplica: isReplica())
    }

    /// Whether the destination is to keep a replica where the hand-off fails.
    private func isReplica() async -> Bool {
        // Where it is not known, the files are kept: they do no harm.
        do {
            return try await service.around.store.get(ReplicaRecord.key(record.user, host)) != nil
        } catch {
            return true
        }
    }

    /// What has come of it so far.
    private actor Course {
        var mode: CutMode?
        var sending: CutSending?
        var supply: LateSupply?

        func set(_ mode: CutMode) { self.mode = mode }
        func set(_ sending: CutSending) { self.sending = sending }
        func set(_ supply: LateSupply) { self.supply = supply }
    }
}
