import Testing

@testable import Replication

@Suite("What a link carries")
struct LinkMeterTests {
    /// A link in virtual time: frames leave one after the other, answers come a round trip later.
    private struct Line {
        let rate: Double
        var roundTrip = 0.002
        var now = 0.0
        var free = 0.0
        var meter = LinkMeter()
        var answers: [Double] = []
        var samples: [LinkSample] = []

        mutating func takeAnswers(until time: Double) {
            while let first = answers.first, first <= time {
                answers.removeFirst()
                if let sample = meter.took(at: first) { samples.append(sample) }
            }
        }

        /// Sends a frame `gap` seconds after the one before.
        mutating func send(_ bytes: Int, after gap: Double, paused: Bool = false) {
            now += gap
            takeAnswers(until: now)
            if paused { meter.paused() }
            meter.sent(bytes)
            free = max(free, now) + Double(bytes) / rate
            answers.append(free + roundTrip)
        }
    }

    @Test("is found from one train, whatever the round trip is", arguments: [0.0005, 0.02, 0.2])
    func train(roundTrip: Double) throws {
        for rate in [6.25e6, 62.5e6, 1e9] {
            var line = Line(rate: rate, roundTrip: roundTrip)
            for _ in 0..<12 { line.send(65536, after: 0.00001) }
            line.takeAnswers(until: .infinity)
            let sample = try #require(line.samples.first)
            #expect(abs(sample.rate / rate - 1) < 0.02 && !sample.isLowerBound, "\(rate)")
        }
    }

    @Test("is not taken from frames that are paced, nor from what is too little")
    func paced() {
        var line = Line(rate: 6.25e6)
        for _ in 0..<100 { line.send(65536, after: 0.02, paused: true) }
        for _ in 0..<3 { line.send(4096, after: 0.00001) }
        line.takeAnswers(until: .infinity)
        #expect(line.samples.isEmpty)
    }

    @Test("is at least what a sender has sent that could not keep it busy")
    func slowSender() throws {
        var line = Line(rate: 1e9)
        for _ in 0..<20 { line.send(65536, after: 0.005) }
        line.takeAnswers(until: .infinity)
        let sample = try #require(line.samples.first)
        #expect(sample.isLowerBound)
        #expect(abs(sample.rate / (65536 / 0.005) - 1) < 0.02)
    }

    @Test("is what most of the last figures say, and never less because of a slow sender")
    func rates() async {
        let rates = LinkRates()
        #expect(await rates.rate(to: "b") == LinkRates.unmeasured)
        await rates.observed(LinkSample(rate: 1e6, isLowerBound: true), to: "b")
        #expect(await rates.rate(to: "b") == LinkRates.unmeasured)
        for rate in [60e6, 61e6, 900e6, 59e6, 62e6] {
            await rates.observed(LinkSample(rate: rate, isLowerBound: false), to: "b")
        }
        #expect(await rates.rate(to: "b") == 61e6)
        await rates.observed(LinkSample(rate: 2e6, isLowerBound: true), to: "b")
        #expect(await rates.rate(to: "b") == 61e6)
        #expect(await rates.rate(to: "c") == LinkRates.unmeasured)
    }

    @Test("is tried again at once while it turns out to be more than was known, else after a while")
    func probes() async {
        let rates = LinkRates()
        #expect(await rates.takeProbe(of: "b", at: 10))
        #expect(await !rates.takeProbe(of: "b", at: 10.1))
        await rates.observed(LinkSample(rate: 60e6, isLowerBound: true), to: "b")
        #expect(await rates.takeProbe(of: "b", at: 10.2))
        await rates.observed(LinkSample(rate: 61e6, isLowerBound: false), to: "b")
        #expect(await !rates.takeProbe(of: "b", at: 10.3))
        #expect(await rates.takeProbe(of: "b", at: 15.3))
    }
}
