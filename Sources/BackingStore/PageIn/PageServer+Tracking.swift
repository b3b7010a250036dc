import Glibc
import LinuxSystem

/// Tracking of writes while pages come in, and beyond.
extension PageServer {
    /// Has a process's writes tracked while its pages come in: they come in write-protected from now on.
    ///
    /// Once CRIU has restored the process and while it is stopped still; only if CRIU's UFFDIO_API asked for asynchronous
    /// write protection, as it does with our preload library.
    package func track(_ process: FlushedProcess) async throws {
        try await onThread { loop in Result { try loop.track(process.inner, hostPid: process.hostPid) } }.get()
    }

    /// Finds out what of inherited memory was written between the fork that it came by and the beginning of tracking.
    ///
    /// A page that is still shared with CRIU was not: CRIU may end afterwards. Where it cannot be told, as the process may
    /// share it with a child of its own, all of it counts as written. Faults are answered meanwhile.
    package func confirmInherited() async {
        let asked = await onThread { loop in
            loop.spaces.filter { $0.isTracking && !$0.unconfirmed.isEmpty }.map { ($0.id, $0.hostPid, $0.unconfirmed) }
        }
        guard !asked.isEmpty else { return }
        let found = try? await offload {
            asked.map { id, pid, pages in (id, pages, try? InheritedView.written(pages, by: pid)) }
        }
        await onThread { loop in
            for case (let id, let pages, let written?) in found ?? [] {
                guard let space = loop.spaces.first(where: { $0.id == id }) else { continue }
                // A fork shares pages before it is told of.
                loop.drain(space)
                space.confirm(pages, written: space.hasForked ? pages : written)
            }
        }
    }

    /// The processes that are tracked, by their number in their own pid namespace.
    package func tracked() async -> Set<pid_t> {
        await onThread { loop in Set(loop.spaces.filter(\.isTracking).map(\.pid)) }
    }

    /// Stops all processes for a moment, in which parts of their memory go over to the tracker's userfaultfds.
    ///
    /// - Returns: how long they were stopped; nil where they could not be, and nothing has changed.
    package func retrack(
        _ stop: RetrackingStop,
        of processes: [RetrackedProcess],
        _ stillness: Stillness
    ) async throws -> Duration? {
        try await withCheckedThrowingContinuation { continuation in
            control.enqueue { [loop] in
                loop.begin(
                    PendingStop(
                        parts: stop.parts,
                        processes: processes,
                        stillness: stillness,
                        done: { continuation.resume(with: $0) }
                    )
                )
            }
        }
    }

    /// What the tracker goes on with, once the last stop is over.
    package func adoptable(_ processes: [RetrackedProcess]) async -> [AdoptedProcess] {
        await onThread { $0.adoptable(processes) }
    }

    /// Ends the service of all processes and gives up their userfaultfds; it returns when they are given up.
    ///
    /// Absent pages read as zero from then on. A mapping that still were registered with one would look tracked.
    package func finishAll() async {
        await onThread { loop in
            for pid in Set(loop.spaces.map(\.pid)) { loop.finish(pid) }
        }
    }
}

/// Processes that are being stopped.
struct PendingStop {
    /// How long they may take to stop; one in an uninterruptible call takes as long as that.
    private static let patience = Duration.milliseconds(20)

    var parts: [(process: Int, part: RetrackedPart)]
    let processes: [RetrackedProcess]
    let stillness: Stillness
    var start = ContinuousClock.now
    let done: (Result<Duration?, any Error>) -> Void

    var isOverdue: Bool { ContinuousClock.now - start > Self.patience }

    /// Lets the processes go on and says what came of it.
    func end(isMade: Bool) {
        done(
            Result {
                try stillness.end()
                return isMade ? ContinuousClock.now - start : nil
            }
        )
    }
}

/// On the server's thread: what a process did before it was stopped has been read and noted when its memory is looked at.
extension PageServerLoop {
    func track(_ pid: pid_t, hostPid: pid_t) throws {
        guard let space = restored(pid) else {
            throw PageInError(pid: pid, page: nil, cause: "the process is not being served")
        }
        guard !space.isTracking else { return }
        try space.startTracking(hostPid: hostPid)
        isUnsettled = true
    }

    private func restored(_ pid: pid_t) -> ServedSpace? {
        spaces.first { $0.pid == pid && !$0.isForked && !$0.isGone }
    }

    /// Has the processes stopped; this thread goes on answering their faults, which they may have to wait for first.
    func begin(_ asked: PendingStop) {
        var pending = asked
        do throws(SyscallError) {
            guard stopping == nil, !isStopping else { return pending.done(.success(nil)) }
            // What has been written so far is found while the processes run: little is left for when they are stopped.
            pending.parts = each(pending) { $0.lookAhead($1, &$3) }
            pending.start = .now
            guard try pending.stillness.begin() else { return pending.done(.success(nil)) }
            stopping = pending
        } catch {
            pending.done(.failure(error))
        }
    }

    func lookAtStop() {
        guard let pending = stopping else { return }
        guard pending.stillness.isReached else {
            guard !pending.isOverdue else { return giveUpStop() }
            usleep(30)
            return
        }
        stopping = nil
        _ = each(pending) { $0.retrack($1, to: $2, &$3) }
        pending.end(isMade: true)
    }

    /// Does something with each part whose process is tracked; returns those with which it was done.
    private func each(
        _ pending: PendingStop,
        _ body: (ServedSpace, RetrackedPart, Descriptor, inout OpenedView) -> Bool
    ) -> [(process: Int, part: RetrackedPart)] {
        var views: [Int: OpenedView] = [:]
        return pending.parts.filter { index, part in
            let process = pending.processes[index]
            guard let space = restored(process.process.inner), space.isTracking, !space.journal.isInDoubt,
                var view = views.removeValue(forKey: index) ?? (try? OpenedView(pid: process.process.hostPid))
            else { return false }
            defer { views[index] = view }
            return body(space, part, process.userfault, &view)
        }
    }

    func giveUpStop() {
        stopping?.end(isMade: false)
        stopping = nil
    }

    func adoptable(_ processes: [RetrackedProcess]) -> [AdoptedProcess] {
        processes.compactMap { retracked in
            guard let space = restored(retracked.process.inner), space.isTracking, !space.journal.isInDoubt else {
                return nil
            }
            return AdoptedProcess(
                pid: retracked.process.hostPid,
                startTime: retracked.startTime,
                userfault: retracked.userfault,
                written: normalized(space.written + space.moved + space.unconfirmed),
                inheritedPages: space.inheritedPages
            )
        }
    }
}
