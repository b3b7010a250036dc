import BackingStore
import LinuxSystem
import Replication

/// Pages that follow a hand-off: at the host that they leave, and at the one that they come to.
extension MemoryService {
    // MARK: - The source

    /// What brings late pages to a destination, and when that is over.
    func supplySurroundings(_ record: SMIRecord, to destination: HostRecord) -> LateSupply.Surroundings {
        let around = around
        return LateSupply.Surroundings(
            user: record.user,
            generation: UInt64(record.generation + 1),
            image: record.spec.image,
            host: destination.name,
            rates: rates,
            priority: priority,
            open: { try await around.open(destination) },
            verdict: { await Self.verdict(record.user, at: destination, around) },
            logger: around.logger
        )
    }

    /// Whether the frozen copy is still needed at the destination, once that has said that the SMI runs there.
    private static func verdict(
        _ user: String,
        at destination: HostRecord,
        _ around: Surroundings
    ) async -> LateSupply.End? {
        do {
            guard let record = try await around.store.record(of: user)?.record else { return .gone }
            if record.host == around.host { return .returned }
            guard record.host == destination.name, record.state == .running else { return .gone }
            let there = try await around.status(user, destination)
            return there.resumed && !there.lacksPages ? .gone : nil
        } catch {
            // Who cannot be asked now is asked again.
            return nil
        }
    }

    /// A supply begins: the files here are in use.
    func begin(_ supply: LateSupply, of user: String) async {
        supplying.insert(user)
        await supply.start()
    }

    /// A supply has ended: the files are not in use by it any more.
    func endSupply(of user: String) {
        supplying.remove(user)
    }

    /// Gives the frozen copy's pages to the host where the SMI runs, after a restart of this daemon.
    package func supplyAgain(_ record: SMIRecord, to destination: HostRecord) async -> LateSupply.End {
        let path = around.paths.memory(record.user)
        do {
            let processes = try await around.sandboxes.pids(record.user)
            let codec = PageDelta.Codec.best(forLink: await rates.rate(to: destination.name))
            let pages = try await offload {
                let directory = try EpochDirectory(path)
                let sources = try processes.map {
                    FrozenPages.Source(
                        hostPid: $0.outer,
                        inner: $0.inner,
                        store: try PageStore.open(at: MemoryFlush.path(of: $0.inner, in: path))
                    )
                }
                return FrozenPages(sources, after: directory.epoch, codec: codec)
            }
            let supply = LateSupply(supplySurroundings(record, to: destination), pages: pages)
            await begin(supply, of: record.user)
            await supply.push()
            let end = await supply.finished()
            endSupply(of: record.user)
            return end
        } catch {
            around.logger.warning(
                "frozen copy cannot be read",
                metadata: ["user": "\(record.user)", "error": "\(error)"]
            )
            return .abandoned
        }
    }

    // MARK: - The destination

    /// Late pages have come, and the host that they came from is not needed any more.
    func noteFigures(_ figures: LateFigures, of record: SMIRecord) {
        guard figures.pages > 0 else { return }
        around.events.note(
            "whole",
            user: record.user,
            [
                "generation": "\(record.generation)", "pages": "\(figures.pages)",
                "waits": "\(figures.waits)", "median_wait_ms": "\(milliseconds(figures.wait(0.5)))",
                "p99_wait_ms": "\(milliseconds(figures.wait(0.99)))",
                "longest_wait_ms": "\(milliseconds(figures.wait(1)))",
            ]
        )
    }

    /// Waits until the memory of an SMI that runs here is all here.
    package func settled(_ user: String) async {
        await comingIn[user]?.value
    }

    /// Whether the memory that is here lacks pages that the host has from which the SMI came.
    package func isLacking(_ user: String) async -> Bool {
        if let seat = lacking[user] { return await seat.isLacking }
        if owned[user] != nil { return false }
        let path = around.paths.memory(user)
        return (try? await offload { try EpochDirectory(path).isLacking }) ?? false
    }

    /// The SMI does not go on here, but where it came from, as it was at the freeze.
    package func giveBack(_ user: String) async {
        await endArrival(user)
        let path = around.paths.memory(user)
        do {
            try await offload { try MemoryReplica(directory: path).giveUpLate() }
        } catch {
            around.logger.warning("replica not kept", metadata: ["user": "\(user)", "error": "\(error)"])
        }
    }

    /// Ends an arrival whose processes are gone.
    func endArrival(_ user: String) async {
        guard let coming = comingIn.removeValue(forKey: user) else { return }
        coming.cancel()
        let keeper = around.paths.pageKeeper(user)
        try? await offload { try PageKeeper.connect(to: keeper).dropAll() }
        await discard(user)
    }

    static let unkept = ReplicaError(
        cause: "the page server and its keeper died while pages were on their way",
        remedy: "nothing is to be done: the SMI goes on where it came from"
    )
}
