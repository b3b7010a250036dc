import Testing

@testable import Replication

@Suite("Late pages")
struct LateOrderTests {
    @Test("go in this order: those waited for, what follows them, hot ones, the rest; each once")
    func order() {
        var order = LateOrder([1: [10..<20, 30..<200], 2: [5..<8]], hot: [1: [30..<31], 2: [7..<8, 90..<91]])
        let none1 = order.nextWanted(limit: 8)
        #expect(none1 == nil)
        let hottest = order.nextOther(limit: 8)
        #expect(hottest?.process == 1 && hottest?.pages == [30..<31])
        order.want(1, [15..<16])
        order.want(1, [12..<13, 30..<31, 1000..<1001])
        order.want(3, [1..<2])
        let wanted = order.nextWanted(limit: 8)
        #expect(wanted?.process == 1 && wanted?.pages == [12..<13, 15..<16])
        let none2 = order.nextWanted(limit: 8)
        #expect(none2 == nil)
        order.want(1, [12..<13])
        let following = order.nextOther(limit: 4)
        #expect(following?.process == 1 && following?.pages == [13..<15, 16..<18])
        var seen: [Int32: [UInt64]] = [1: [30, 12, 15, 13, 14, 16, 17]]
        var firstOfTwo: UInt64?
        while let (process, pages) = order.nextOther(limit: 3) {
            if process == 2, firstOfTwo == nil { firstOfTwo = pages.first?.lowerBound }
            seen[process, default: []] += pages.joined()
        }
        #expect(firstOfTwo == 7)
        #expect(order.isEmpty)
        #expect(seen[1]?.sorted() == Array(10..<20) + Array(30..<200))
        #expect(seen[2]?.sorted() == [5, 6, 7])
    }

    @Test("that are waited for in two processes are not mixed in one frame")
    func processes() {
        var order = LateOrder([1: [1..<9], 2: [1..<9]])
        order.want(1, [1..<2])
        order.want(2, [1..<2])
        order.want(2, [3..<4])
        let frames = [order.nextWanted(limit: 8), order.nextWanted(limit: 8)].compactMap(\.self)
        #expect(frames.map(\.process) == [1, 2])
        #expect(frames.map(\.pages) == [[1..<2], [1..<2, 3..<4]])
        let none3 = order.nextWanted(limit: 8)
        #expect(none3 == nil)
    }

    /// A link in virtual time: what is sent leaves one after the other, answers come a round trip later.
    private func longestQueue(rate: Double, roundTrip: Double, frames: Int) -> (queued: Double, busy: Double) {
        var window = LateWindow(bytesPerSecond: rate)
        var answers: [Double] = []
        var (now, free, sent, queued) = (0.0, 0.0, 0.0, 0.0)
        for _ in 0..<frames {
            while !window.hasRoom {
                now = max(now, answers.removeFirst())
                window.took(at: now)
            }
            let bytes = window.framePages * 4200
            window.sent(bytes, at: now)
            // How long a page that is waited for would wait behind what is here already, once the window is known.
            if window.framePages > 0, answers.count > 2 { queued = max(queued, free - now) }
            free = max(free, now) + Double(bytes) / rate
            sent += Double(bytes)
            answers.append(free + roundTrip)
        }
        return (queued, sent / rate / free)
    }

    @Test("fill the link and keep no queue longer than a round trip", arguments: [0.0005, 0.002, 0.02, 0.08])
    func window(roundTrip: Double) {
        for rate in [6.25e6, 125e6] {
            let (queued, busy) = longestQueue(rate: rate, roundTrip: roundTrip, frames: 4000)
            // A round trip, and the frame that is on its way out.
            #expect(queued <= roundTrip + 2 * 4200 / rate + 0.0005 + roundTrip / 2, "\(rate)")
            #expect(busy > 0.8, "\(rate)")
        }
    }

    @Test("that are small leave no more often than the other side answers")
    func smallFrames() {
        var window = LateWindow(bytesPerSecond: 6.25e6)
        var sent = 0
        while window.hasRoom, sent < 100 {
            window.sent(170, at: 0)
            sent += 1
        }
        // As many as would fill the link if they were whole, and two.
        #expect(sent >= 2 && sent <= 4)
        window.took(at: 0.002)
        #expect(window.hasRoom)
    }
}
