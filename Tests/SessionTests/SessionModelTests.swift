import Testing

@testable import Isolation

/// A model of smi-init's half of the protocol, with a program that turns input into output.
private struct ModelInit {
    /// smi-init's largest window, which is also all that a client keeps.
    static let window: UInt64 = 256 << 10
    static let ring: UInt64 = 700

    var started = 0
    var inputReceived: UInt64 = 0
    var inputWritten: UInt64 = 0
    var inputEnd: UInt64?
    var limit: UInt64 = window
    /// Produced, acknowledged and sent, for each output.
    var produced: [UInt64] = [0, 0]
    var acknowledged: [UInt64] = [0, 0]
    var sent: [UInt64] = [0, 0]
    var endSent = [false, false]
    let totals: [UInt64]
    var signals: [Int32] = []
    var lastSignal: UInt64 = 0
    var exitSent = false
    var exitAcknowledged = false
    var isOpen = false
    var violation: String?

    init(totals: [UInt64]) {
        self.totals = totals
    }

    /// What the client is to be told after a request.
    mutating func request(_ effect: SessionEffect) -> [SessionEvent] {
        isOpen = true
        exitSent = false
        endSent = [false, false]
        switch effect {
        case .sendStart:
            if started == 0 { started = 1 }
            sent = acknowledged
        case .sendResume(_, let output, let error, _):
            sent = [output, error]
            for index in 0..<2 where sent[index] > produced[index] || sent[index] < acknowledged[index] {
                violation = "resumed at an offset that cannot be"
            }
        default: violation = "no request"
        }
        limit = inputWritten + Self.window
        return [
            .opened(
                SessionOpened(
                    session: 1,
                    inputReceived: inputReceived,
                    inputLimit: limit,
                    outputStart: sent[0],
                    errorStart: sent[1],
                    lastSignal: lastSignal
                )
            )
        ]
    }

    mutating func take(_ effect: SessionEffect) -> [SessionEvent] {
        switch effect {
        case .sendInput(let offset, let count):
            let end = offset + UInt64(count)
            if offset > inputReceived { violation = "a gap in the input" }
            if end > limit { violation = "input beyond the limit" }
            inputReceived = max(inputReceived, end)
        case .sendEnd(let offset):
            if offset != inputReceived { violation = "an end out of place" }
            inputEnd = offset
        case .sendAcknowledge(let stream, let offset):
            let index = stream == .output ? 0 : 1
            if offset > sent[index] { violation = "acknowledged what was not sent" }
            acknowledged[index] = max(acknowledged[index], offset)
        case .sendSignal(let sequence, let number):
            if sequence > lastSignal {
                if sequence != lastSignal + 1 { violation = "a signal was skipped" }
                lastSignal = sequence
                signals.append(number)
            }
            return [.signalAcknowledged(lastSignal)]
        case .sendExitAcknowledge:
            if !exitSent { violation = "acknowledged an exit that was not told" }
            exitAcknowledged = true
        default: break
        }
        return []
    }

    /// Lets the program and smi-init do one random thing.
    mutating func step(_ generator: inout FaultyRelay.Generator) -> [SessionEvent] {
        switch Int.random(in: 0..<4, using: &generator) {
        case 0:
            let index = Int.random(in: 0..<2, using: &generator)
            let room = min(totals[index] - produced[index], Self.ring - (produced[index] - acknowledged[index]))
            produced[index] += UInt64.random(in: 0...room, using: &generator)
        case 1:
            inputWritten += UInt64.random(in: 0...(inputReceived - inputWritten), using: &generator)
            guard isOpen else { break }
            limit = inputWritten + Self.window
            return [.inputAcknowledged(offset: inputWritten, limit: limit)]
        default: return isOpen ? sendSomething(&generator) : []
        }
        return []
    }

    private mutating func sendSomething(_ generator: inout FaultyRelay.Generator) -> [SessionEvent] {
        for index in 0..<2 {
            let stream: SessionStream = index == 0 ? .output : .error
            let waiting = produced[index] - sent[index]
            if waiting > 0 {
                let count = UInt64.random(in: 1...min(waiting, 300), using: &generator)
                defer { sent[index] += count }
                return [.data(stream, offset: sent[index], count: Int(count))]
            }
            if hasEnded, !endSent[index] {
                endSent[index] = true
                return [.ended(stream, offset: sent[index])]
            }
        }
        guard hasEnded, endSent == [true, true], !exitSent else { return [] }
        exitSent = true
        return [.exited(.status(42))]
    }

    /// The program ends when it has read all input and written all output.
    var hasEnded: Bool { inputEnd != nil && inputWritten == inputEnd && produced == totals }
}

/// Client and model, a connection between them that can break at any moment, and what comes out at the client's end.
private struct World {
    var generator: FaultyRelay.Generator
    var client = SessionClientStateMachine()
    var model: ModelInit
    var toModel: [SessionEffect] = []
    var toClient: [SessionEvent] = []
    var connected = false
    var dialling = false
    var inputLeft: UInt64
    let inputTotal: UInt64
    var inputEnded = false
    var forgotten: UInt64 = 0
    var pendingWrites: [UInt64] = [0, 0]
    var delivered: [UInt64] = [0, 0]
    var lastData: (offset: UInt64, index: Int) = (0, 0)
    var signalsToSend: [Int32] = [1, 2, 15]
    var cuts = 0
    var failure: String?

    init(seed: UInt64) {
        var generator = FaultyRelay.Generator(state: seed)
        inputTotal = UInt64.random(in: 0..<2_000_000, using: &generator)
        inputLeft = inputTotal
        model = ModelInit(totals: (0..<2).map { _ in UInt64.random(in: 0..<5000, using: &generator) })
        self.generator = generator
    }

    mutating func perform(_ effects: [SessionEffect]) {
        for effect in effects {
            switch effect {
            case .dial: dialling = true
            case .drop: failure = failure ?? "the client found a breach"
            case .deliver(_, let skip, let count):
                if lastData.offset + UInt64(skip) != delivered[lastData.index] { failure = "output out of order" }
                delivered[lastData.index] += UInt64(count)
                pendingWrites[lastData.index] += UInt64(count)
            case .forgetInput(let before):
                if before > model.inputReceived { failure = "forgot input that is still needed" }
                forgotten = before
            case .finish, .reportDropped: break
            case .sendInput(let offset, _):
                if offset < forgotten { failure = "sent input that is forgotten" }
                toModel.append(effect)
            default: toModel.append(effect)
            }
        }
    }

    mutating func feed(_ event: SessionEvent) {
        if case .data(let stream, let offset, _) = event { lastData = (offset, stream == .output ? 0 : 1) }
        perform(client.on(event))
    }

    mutating func cut() {
        cuts += 1
        connected = false
        model.isOpen = false
        // What was under way is lost in both directions.
        toModel = []
        toClient = []
        feed(.disconnected)
    }

    mutating func step(cutsPerThousand: Int) {
        if dialling, !connected {
            dialling = false
            connected = true
            feed(.connected)
        }
        switch Int.random(in: 0..<8, using: &generator) {
        case 0, 1: deliverToModel()
        case 2, 3: if !toClient.isEmpty { feed(toClient.removeFirst()) }
        case 4: toClient += model.step(&generator)
        case 5: readInput()
        case 6: writeOutput()
        default:
            if !signalsToSend.isEmpty, client.session != nil { feed(.signal(signalsToSend.removeFirst())) }
        }
        if connected, Int.random(in: 0..<1000, using: &generator) < cutsPerThousand { cut() }
        failure = failure ?? model.violation
    }

    private mutating func deliverToModel() {
        guard connected, !toModel.isEmpty else { return }
        let effect = toModel.removeFirst()
        switch effect {
        case .sendStart, .sendResume: toClient += model.request(effect)
        default: toClient += model.take(effect)
        }
    }

    private mutating func readInput() {
        let room = UInt64(client.inputRoom)
        if inputLeft > 0, room > 0 {
            let count = UInt64.random(in: 1...min(inputLeft, room, 130_000), using: &generator)
            inputLeft -= count
            feed(.inputRead(Int(count)))
        } else if inputLeft == 0, !inputEnded, client.session != nil {
            inputEnded = true
            feed(.inputEnded)
        }
    }

    private mutating func writeOutput() {
        let index = Int.random(in: 0..<2, using: &generator)
        guard pendingWrites[index] > 0 else { return }
        let count = UInt64.random(in: 1...pendingWrites[index], using: &generator)
        pendingWrites[index] -= count
        feed(.written(index == 0 ? .output : .error, count: Int(count)))
    }
}

@Suite struct SessionModelTests {
    @Test(arguments: [0, 3, 15, 40])
    func losesAndDoublesNothingWhateverBreaks(cutsPerThousand: Int) {
        var cuts = 0
        for seed in 0..<400 as Range<UInt64> {
            var world = World(seed: seed)
            world.perform(world.client.start())
            var steps = 0
            while world.client.outcome == nil, world.failure == nil, steps < 400_000 {
                world.step(cutsPerThousand: cutsPerThousand)
                steps += 1
            }
            cuts += world.cuts
            #expect(world.failure == nil, "seed \(seed)")
            #expect(world.client.outcome == .exited(.status(42)), "seed \(seed) after \(steps) steps")
            #expect(world.delivered == world.model.totals, "seed \(seed)")
            #expect(world.model.inputReceived == world.inputTotal, "seed \(seed)")
            #expect(world.model.started == 1)
            #expect(world.model.signals == Array([1, 2, 15].prefix(world.model.signals.count)))
        }
        #expect(cutsPerThousand == 0 || cuts > 400)
    }
}
