import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// The page server's thread.
// SAFETY: everything but `start` is touched by that one thread only (through `PageServerControl`).
final class PageServerLoop: @unchecked Sendable {
    /// CRIU's word for "all tasks are restored and stopped".
    private static let restoredMark: Int32 = 0x5253_5446

    private let control: PageServerControl
    private let keeper: PageKeeper?
    private let sources: @Sendable (pid_t) -> PageSource?
    private let onEvent: @Sendable (PageServer.Event) -> Void
    private let isStarted = Atomic(false)
    private let ended = Atomic(false)

    /// The thread has touched its last descriptor.
    var isEnded: Bool { ended.load(ordering: .acquiring) }

    var listening: Descriptor?
    var isStopping = false
    private var connections: [Connection] = []
    private(set) var spaces: [ServedSpace] = []
    /// Processes are being stopped, to have their tracking go on.
    var stopping: PendingStop?
    /// What is waited for: commands, the listening socket, `connections`, `spaces`; empty where these have changed.
    private var polled: [pollfd] = []
    /// The space whose turn it is to be pushed into.
    private var turn = 0
    /// Something has happened to a space that may have to be reported.
    var isUnsettled = false
    /// When a fault was answered last: pushes are short for a while, as the next one waits behind them.
    private var lastFault = ContinuousClock.now - .seconds(1)
    private static let faultsLinger = Duration.milliseconds(2)
    private var completed: Set<UInt64> = []
    private var nextId = UInt64.random(in: 0..<1 << 60)

    private final class Connection {
        let socket: Descriptor
        /// The task whose userfaultfd comes next.
        var expecting: pid_t?

        init(_ socket: Descriptor) {
            self.socket = socket
        }
    }

    init(
        control: PageServerControl,
        keeper: PageKeeper?,
        sources: @escaping @Sendable (pid_t) -> PageSource?,
        onEvent: @escaping @Sendable (PageServer.Event) -> Void
    ) {
        self.control = control
        self.keeper = keeper
        self.sources = sources
        self.onEvent = onEvent
    }

    func start() throws(SyscallError) {
        guard !isStarted.exchange(true, ordering: .relaxed) else { return }
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(self).toOpaque()
        let result = pthread_create(&thread, nil, runPageServer, argument)
        guard result == 0 else {
            Unmanaged<PageServerLoop>.fromOpaque(argument).release()
            throw SyscallError("pthread_create", code: result)
        }
        pthread_detach(thread)
    }

    fileprivate func run() {
        while !isStopping {
            carryOut(wait())
            // What an event delays does not announce itself again.
            for space in spaces where space.isDelayed { space.retryEvents() }
            push()
            if isUnsettled { settle() }
            if stopping != nil { lookAtStop() }
        }
        giveUpStop()
        spaces = []
        connections = []
        listening = nil
        control.close()
        ended.store(true, ordering: .releasing)
    }

    /// What is to be done beside answering faults.
    private struct Calls {
        var isCommanded = false
        var isCalled = false
        var readable: [Connection] = []
    }

    /// Waits for something to do, unless there are pages to push, and answers faults and events first.
    ///
    /// A command may end spaces: a fork that were read of one afterwards would make a space that nobody ends.
    private func wait() -> Calls {
        if polled.isEmpty {
            polled = [pollfd(fd: control.eventfd.raw, events: Int16(POLLIN), revents: 0)]
            polled.append(pollfd(fd: listening?.raw ?? -1, events: Int16(POLLIN), revents: 0))
            polled += connections.map { pollfd(fd: $0.socket.raw, events: Int16(POLLIN), revents: 0) }
            polled += spaces.map { pollfd(fd: $0.userfault.raw, events: Int16(POLLIN), revents: 0) }
        }
        let isBusy = stopping != nil || spaces.contains { $0.hasWork }
        let patience: Int32 = isBusy ? 0 : spaces.contains { $0.isDelayed } ? 1 : -1
        guard poll(&polled, nfds_t(polled.count), patience) > 0 else { return Calls() }
        let others = 2 + connections.count
        var calls = Calls(isCommanded: polled[0].revents != 0, isCalled: polled[1].revents != 0)
        calls.readable = connections.enumerated().filter { polled[2 + $0.offset].revents != 0 }.map(\.element)
        for space in spaces.indices.filter({ polled[others + $0].revents != 0 }).map({ spaces[$0] }) { drain(space) }
        return calls
    }

    private func carryOut(_ calls: Calls) {
        guard calls.isCommanded || calls.isCalled || !calls.readable.isEmpty else { return }
        isUnsettled = true
        polled = []
        if calls.isCommanded { control.run() }
        if calls.isCalled { accept() }
        for connection in calls.readable { receive(connection) }
    }

    func drain(_ space: ServedSpace) {
        isUnsettled = true
        do {
            let faults = try space.drainEvents { parent, userfault in try self.adopt(childOf: parent, userfault) }
            if faults > 0 { lastFault = .now }
        } catch {
            onEvent(.failed(PageInError(pid: space.pid, page: nil, cause: "\(error)")))
        }
    }

    /// Copies pages into one of the spaces: between two pushes the faults of all of them are looked at.
    private func push() {
        for _ in spaces.indices {
            turn = (turn + 1) % spaces.count
            let space = spaces[turn]
            guard space.hasWork else { continue }
            let areFaultsRecent = ContinuousClock.now - lastFault < Self.faultsLinger
            space.push(limit: areFaultsRecent ? ServedSpace.shortBatch : ServedSpace.batch)
            if !space.hasWork { isUnsettled = true }
            return
        }
    }

    /// Reports what has changed, and forgets processes that have gone.
    private func settle() {
        isUnsettled = false
        for space in spaces {
            if let failure = space.takeFailure() { onEvent(.failed(failure)) }
            if space.isRestored, space.extents.isEmpty, !space.isGone, completed.insert(space.id).inserted {
                onEvent(.complete(pid: space.pid))
            }
            if space.isGone {
                try? keeper?.drop(id: space.id)
                onEvent(.gone(pid: space.pid))
            }
        }
        guard spaces.contains(where: \.isGone) else { return }
        spaces.removeAll { $0.isGone }
        polled = []
    }

    // MARK: CRIU's connection

    private func accept() {
        guard let listening else { return }
        let raw = smi_accept_nonblocking(listening.raw)
        if raw >= 0 { connections.append(Connection(Descriptor(owning: raw))) }
    }

    private func receive(_ connection: Connection) {
        while true {
            var word: Int32 = 0
            var descriptor: Int32 = -1
            var received: Int32 = 0
            // A task's number is four bytes; its userfaultfd comes with one byte of its own.
            let length = connection.expecting == nil ? 4 : 1
            let count = smi_recv_fds(connection.socket.raw, &word, length, &descriptor, 1, &received)
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            guard count == length else {
                connections.removeAll { $0 === connection }
                return
            }
            if let pid = connection.expecting {
                connection.expecting = nil
                if received == 1 { serve(pid, Descriptor(owning: descriptor)) }
            } else if word == Self.restoredMark {
                for space in spaces { space.isRestored = true }
                onEvent(.restored)
            } else if word > 0 {
                connection.expecting = word
            }
        }
    }

    private func serve(_ pid: pid_t, _ userfault: Descriptor) {
        guard let source = sources(pid) else {
            onEvent(.failed(PageInError(pid: pid, page: nil, cause: "there is no backing file for this process")))
            return
        }
        do {
            let extents = PageExtents(pages: source.pages)
            try add(pid, userfault, source, try PageJournal(), extents)
        } catch {
            onEvent(.failed(PageInError(pid: pid, page: nil, cause: "\(error)")))
        }
    }

    @discardableResult
    private func add(
        _ pid: pid_t,
        _ userfault: Descriptor,
        _ source: PageSource,
        _ journal: PageJournal,
        _ extents: PageExtents,
        isForked: Bool = false
    ) throws -> ServedSpace {
        let id = nextId
        nextId += 1
        _ = fcntl(userfault.raw, F_SETFL, fcntl(userfault.raw, F_GETFL) | O_NONBLOCK)
        // The keeper first: from here on the death of this process makes faults wait.
        try keeper?.keep(id: id, pid: pid, userfault: userfault, journal: journal.file)
        let space = ServedSpace(
            id: id,
            pid: pid,
            userfault: userfault,
            source: source,
            journal: journal,
            extents: extents,
            isForked: isForked
        )
        spaces.append(space)
        polled = []
        return space
    }

    private func adopt(childOf parent: ServedSpace, _ userfault: Descriptor) throws {
        let journal = try parent.journal.copy()
        // The parent alone will hear of what its moves have left.
        for range in parent.extents.left { journal.note(.unmapped(range)) }
        parent.hasForked = true
        let child = try add(parent.pid, userfault, parent.source, journal, parent.extents.forked, isForked: true)
        child.isRestored = parent.isRestored
    }

    // MARK: commands

    func takeOver() {
        guard let kept = try? keeper?.list() else { return }
        for entry in kept {
            do {
                let journal = try PageJournal(entry.journal)
                guard let source = sources(entry.pid), !journal.isInDoubt else {
                    throw PageInError(
                        pid: entry.pid,
                        page: nil,
                        cause: "the page server before this one died while the process changed its memory"
                    )
                }
                var extents = PageExtents(pages: source.pages)
                for change in journal.changes { extents.apply(change) }
                let space = ServedSpace(
                    id: entry.id,
                    pid: entry.pid,
                    userfault: entry.userfault,
                    source: source,
                    journal: journal,
                    extents: extents
                )
                // CRIU's restore has ended, well or badly, as its connection died with the server before.
                space.isRestored = true
                space.wakeAll()
                spaces.append(space)
            } catch let error as PageInError {
                onEvent(.failed(error))
            } catch {
                onEvent(.failed(PageInError(pid: entry.pid, page: nil, cause: "\(error)")))
            }
        }
    }

    func finish(_ pid: pid_t) {
        for space in spaces where space.pid == pid { try? keeper?.drop(id: space.id) }
        spaces.removeAll { $0.pid == pid }
        polled = []
    }

    func pagesLeft() -> [pid_t: UInt64] {
        Dictionary(spaces.map { ($0.pid, $0.extents.count) }) { $0 + $1 }
    }

    func retryAll() {
        for space in spaces { space.retryWaiting() }
    }
}

/// The thread's entry; a plain function, because a closure made on an actor would trap here.
private func runPageServer(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    Unmanaged<PageServerLoop>.fromOpaque(argument).takeRetainedValue().run()
    return nil
}
