import Glibc
import LinuxSystem
import Synchronization

/// A connection that carries one request, and what holds it: when the leash ends, so does the connection.
package struct SessionLink: Sendable {
    /// The authenticated connection to smi-init, or a relay's end.
    package let stream: Descriptor
    /// The unix connection to the daemon that gave it; nil where there is none.
    package let leash: Descriptor?

    /// A connection, authenticated.
    package init(stream: Descriptor, leash: Descriptor? = nil) {
        self.stream = stream
        self.leash = leash
    }
}

/// Gets a connection; may wait for as long as the SMI is on its way.
///
/// It is called on threads of its own.
package typealias SessionDial = @Sendable () throws -> SessionLink

/// Where a session's streams go locally; the descriptors stay the caller's.
package struct SessionInput {
    /// What the program is to read; -1: nothing.
    package var input: Int32
    package var output: WriteEnd
    package var error: WriteEnd
    /// Signals that concern the session.
    package var signals: SignalPipe?
    /// Whether `input` is a terminal in raw mode: ctrl-p ctrl-q then leaves the session.
    package var isRaw: Bool
    /// Reads the terminal's size.
    package var window: (() -> WindowSize?)?

    /// Local ends of a session.
    package init(
        input: Int32 = 0,
        output: WriteEnd = WriteEnd(1),
        error: WriteEnd = WriteEnd(2),
        signals: SignalPipe? = nil,
        isRaw: Bool = false,
        window: (() -> WindowSize?)? = nil
    ) {
        self.input = input
        self.output = output
        self.error = error
        self.signals = signals
        self.isRaw = isRaw
        self.window = window
    }
}

/// How a client's work ended, and the local signal that ended it, if one did.
package struct SessionResult: Sendable, Equatable {
    package var outcome: SessionOutcome
    package var signal: Int32?
    /// Output that the program wrote while nobody was there and that is lost, bytes.
    package var dropped: UInt64
}

/// Drives `SessionClientStateMachine`: one thread, one poll(2) loop, raw buffers.
///
/// Not thread-safe: made, run and forgotten by one thread.
package final class SessionClient {
    enum Dialled: Sendable {
        case link(SessionLink)
        case failed(any Error)
    }

    /// What the dialling thread leaves for the loop.
    final class Mailbox: Sendable {
        let content = Mutex<Dialled?>(nil)
    }

    static let detachWithin = Duration.seconds(5)
    static let goodbyeWithin = Duration.milliseconds(200)
    static let holdKeyFor = Duration.milliseconds(500)
    static let firstDelay = Duration.milliseconds(5)
    static let longestDelay = Duration.milliseconds(500)

    let dial: SessionDial
    let start: SessionStart
    let local: SessionInput
    let patience: Duration
    let key = SessionKey()
    var machine: SessionClientStateMachine

    var link: SessionLink?
    var parser = FrameParser()
    let incoming = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
    let outgoing = ByteQueue()
    let input = ByteQueue()
    var inputBase: UInt64 = 0
    let pending = [ByteQueue(), ByteQueue()]
    var keys = DetachKeys()

    let mailbox = Mailbox()
    let wake: (read: Descriptor, write: Descriptor)
    var wasConnected = false
    var lastFailure: (any Error)?
    var fatal: (any Error)?
    var delay = SessionClient.firstDelay
    var retryAt: ContinuousClock.Instant?
    var giveUpAt: ContinuousClock.Instant?
    var releaseKeyAt: ContinuousClock.Instant?
    var endedBy: Int32?
    var dropped: UInt64 = 0
    /// Told how many bytes of output are missing, before what follows them is written.
    package var onDropped: ((UInt64) -> Void)?

    /// A client of one session.
    ///
    /// - Parameters:
    ///   - start: what to ask for.
    ///   - local: where the streams go.
    ///   - patience: how long a lost connection may take to come back.
    ///   - dial: gets a connection; called again after every loss.
    /// - Throws: `SyscallError` where there are no descriptors left.
    package init(
        start: SessionStart,
        local: SessionInput,
        patience: Duration = .seconds(120),
        dial: @escaping SessionDial
    ) throws {
        self.dial = dial
        self.start = start
        self.local = local
        self.patience = patience
        machine = SessionClientStateMachine(window: local.window?())
        wake = try DescriptorPassing.pipe()
    }

    deinit {
        incoming.deallocate()
    }

    /// The session's number, once known.
    package var session: UInt32? { machine.session }

    /// Works until the session has ended for this client.
    ///
    /// - Throws: the dialling error, where no connection could be had at first or the SMI is known to be gone.
    package func run() throws -> SessionResult {
        perform(machine.start())
        while machine.outcome == nil, fatal == nil { turn() }
        flushLast()
        dropLink()
        if let fatal { throw fatal }
        return SessionResult(outcome: machine.outcome ?? .gaveUp, signal: endedBy, dropped: dropped)
    }

    /// One round of the loop: wait for whatever comes first, and handle all that has come.
    private func turn() {
        var waits = WaitSet()
        let socket = waits.add(link?.stream.raw, POLLIN | (outgoing.isEmpty ? 0 : POLLOUT))
        let leash = waits.add(link?.leash?.raw, POLLIN)
        let typed = waits.add(machine.inputRoom > 0 ? local.input : nil, POLLIN)
        let output = waits.add(pending[0].isEmpty ? nil : local.output.pollable, POLLOUT)
        let error = waits.add(pending[1].isEmpty ? nil : local.error.pollable, POLLOUT)
        let signals = waits.add(local.signals?.descriptor.raw, POLLIN)
        let woken = waits.add(wake.read.raw, POLLIN)
        waits.wait(atMost: timeLeft())

        if waits.isReady(signals) { handleSignals() }
        if waits.isReady(woken) { takeDialled() }
        if waits.isReady(leash) { lost() }
        if waits.isReady(socket) { transfer() }
        if waits.isReady(output) { flush(.output) }
        if waits.isReady(error) { flush(.error) }
        if waits.isReady(typed) { readInput() }
        handleTime()
    }

    func feed(_ event: SessionEvent) {
        perform(machine.on(event))
    }

    // MARK: Time

    private func timeLeft() -> Duration? {
        let times = [retryAt, giveUpAt, releaseKeyAt].compactMap(\.self)
        return times.min().map { max($0 - ContinuousClock.now, .zero) }
    }

    private func handleTime() {
        let now = ContinuousClock.now
        if let at = releaseKeyAt, at <= now {
            releaseKeyAt = nil
            take(keys.release())
        }
        if let at = giveUpAt, at <= now {
            giveUpAt = nil
            feed(.giveUp)
            if machine.outcome == .gaveUp { fatal = IsolationError.lost(lastFailure) }
        }
        if let at = retryAt, at <= now {
            retryAt = nil
            beginDialling()
        }
    }

    // MARK: Dialling

    /// Dials now, or after a delay where the last connection brought nothing.
    func redial() {
        guard wasConnected || lastFailure != nil else {
            beginDialling()
            return
        }
        retryAt = .now + delay
        delay = min(delay * 2, Self.longestDelay)
        if giveUpAt == nil { giveUpAt = .now + patience }
    }

    private func beginDialling() {
        let mailbox = mailbox
        let wake = wake.write
        let dial = dial
        runOnThread {
            let result: Dialled
            do { result = .link(try dial()) } catch { result = .failed(error) }
            mailbox.content.withLock { $0 = result }
            var byte: UInt8 = 1
            _ = write(wake.raw, &byte, 1)
        }
    }

    private func takeDialled() {
        var byte: UInt8 = 0
        _ = read(wake.read.raw, &byte, 1)
        guard let result = mailbox.content.withLock({ $0.take() }), machine.outcome == nil else { return }
        switch result {
        case .link(let link):
            self.link = link
            wasConnected = true
            parser = FrameParser()
            outgoing.removeAll()
            feed(.connected)
        case .failed(let error):
            lastFailure = error
            let retries = (error as? IsolationError)?.isWorthRetrying ?? true
            if wasConnected, retries { redial() } else { fatal = error }
        }
    }

    /// The session goes on: the next loss has all the time again.
    func connectionWorks() {
        delay = Self.firstDelay
        giveUpAt = nil
        lastFailure = nil
        // A signal that came meanwhile is delivered now: it no longer asks to stop waiting.
        if !start.isTerminal { endedBy = nil }
    }

    func lost() {
        guard link != nil else { return }
        dropLink()
        feed(.disconnected)
    }

    func dropLink() {
        link?.stream.close()
        link?.leash?.close()
        link = nil
        outgoing.removeAll()
    }

    // MARK: Signals

    private func handleSignals() {
        for number in local.signals?.arrived() ?? [] {
            switch number {
            case SIGWINCH: reportSize()
            case SIGCONT:
                TerminalMode.makeRawAgain()
                reportSize()
            default: start.isTerminal ? leave(number) : pass(number)
            }
        }
    }

    private func reportSize() {
        if let size = local.window?() { feed(.resized(size)) }
    }

    /// A terminal session outlives its client.
    private func leave(_ number: Int32) {
        endedBy = number
        detach()
    }

    func detach() {
        feed(.detach)
        giveUpAt = .now + Self.detachWithin
    }

    /// A program with pipes gets the signal; where it cannot be reached, the second one ends the waiting.
    private func pass(_ number: Int32) {
        let isUrgent = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].contains(number)
        guard machine.link != .open, isUrgent else { return feed(.signal(number)) }
        let isSecond = endedBy != nil || session == nil
        endedBy = number
        feed(isSecond ? .giveUp : .signal(number))
    }
}

/// The descriptors of one poll(2).
struct WaitSet {
    private var entries: [pollfd] = []

    /// Adds a descriptor, if there is one; the result is for `isReady`.
    mutating func add(_ descriptor: Int32?, _ events: Int32) -> Int? {
        guard let descriptor, descriptor >= 0 else { return nil }
        entries.append(pollfd(fd: descriptor, events: Int16(events), revents: 0))
        return entries.count - 1
    }

    /// Waits for any of them; for ever where there is no time.
    mutating func wait(atMost time: Duration?) {
        let count = poll(&entries, nfds_t(entries.count), time?.milliseconds ?? -1)
        if count < 0 { for index in entries.indices { entries[index].revents = 0 } }
    }

    /// Whether something is to be done there, errors included.
    func isReady(_ index: Int?) -> Bool {
        index.map { entries[$0].revents != 0 } ?? false
    }
}
