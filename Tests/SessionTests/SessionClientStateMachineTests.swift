import Testing

@testable import Isolation

@Suite struct SessionClientStateMachineTests {
    private func opened(
        received: UInt64 = 0,
        limit: UInt64 = 65536,
        output: UInt64 = 0,
        error: UInt64 = 0,
        dropped: UInt64 = 0,
        lastSignal: UInt64 = 0
    ) -> SessionEvent {
        .opened(
            SessionOpened(
                session: 5,
                inputReceived: received,
                inputLimit: limit,
                outputStart: output,
                errorStart: error,
                dropped: dropped,
                lastSignal: lastSignal
            )
        )
    }

    private func openedMachine() -> SessionClientStateMachine {
        var machine = SessionClientStateMachine()
        _ = machine.start()
        _ = machine.on(.connected)
        _ = machine.on(opened())
        return machine
    }

    @Test func startsByDiallingAndSendsItsRequestOnce() {
        var machine = SessionClientStateMachine(window: WindowSize(rows: 2, columns: 3))
        #expect(machine.start() == [.dial])
        #expect(machine.on(.connected) == [.sendStart(WindowSize(rows: 2, columns: 3))])
        #expect(machine.on(.connected) == [])
        #expect(machine.inputRoom == 0)
        #expect(machine.on(opened()) == [])
        #expect(machine.inputRoom == 256 << 10)
    }

    @Test func repeatsTheRequestUntilItIsAnswered() {
        var machine = SessionClientStateMachine()
        _ = machine.on(.connected)
        #expect(machine.on(.disconnected) == [.dial])
        #expect(machine.on(.connected) == [.sendStart(nil)])
    }

    @Test func resumesFromWhatItHasReceived() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 100))
        _ = machine.on(.data(.error, offset: 0, count: 7))
        #expect(machine.on(.disconnected) == [.dial])
        #expect(machine.on(.connected) == [.sendResume(session: 5, output: 100, error: 7, nil)])
    }

    @Test func endsWhereTheMachineHasSentLessThanArrived() {
        for (output, error) in [(UInt64(99), UInt64(7)), (100, 6)] {
            var machine = openedMachine()
            _ = machine.on(.data(.output, offset: 0, count: 100))
            _ = machine.on(.data(.error, offset: 0, count: 7))
            _ = machine.on(.disconnected)
            _ = machine.on(.connected)
            let text = "smi-init has sent less output than arrived"
            #expect(machine.on(opened(output: output, error: error)) == [.finish(.refused(.breach, message: text))])
        }
    }

    @Test func acknowledgesOutputOnlyOnceItIsWritten() {
        var machine = openedMachine()
        #expect(machine.on(.data(.output, offset: 0, count: 100)) == [.deliver(.output, skip: 0, count: 100)])
        #expect(machine.on(.written(.output, count: 60)) == [])
        #expect(machine.on(.written(.output, count: 40)) == [.sendAcknowledge(.output, offset: 100)])
    }

    @Test func acknowledgesLongOutputOnTheWay() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 65536))
        #expect(machine.on(.written(.output, count: 32768)) == [.sendAcknowledge(.output, offset: 32768)])
    }

    @Test func skipsOutputThatItHasAlready() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 100))
        #expect(machine.on(.data(.output, offset: 40, count: 80)) == [.deliver(.output, skip: 60, count: 20)])
        #expect(machine.on(.data(.output, offset: 10, count: 20)) == [])
    }

    @Test func dropsAConnectionThatSkipsOutput() {
        var machine = openedMachine()
        #expect(machine.on(.data(.output, offset: 1, count: 1)) == [.drop])
        #expect(machine.on(.disconnected) == [.dial])
    }

    @Test func dropsAConnectionThatBreaksTheProtocol() {
        for event: SessionEvent in [
            .breach, .opened(SessionOpened(session: 5, inputLimit: 1)), .ended(.output, offset: 9),
            .inputAcknowledged(offset: 1, limit: 65536), .inputAcknowledged(offset: 0, limit: 1),
            .exited(.status(0)), .data(.input, offset: 0, count: 1),
        ] {
            var machine = openedMachine()
            #expect(machine.on(event) == [.drop], "\(event)")
        }
    }

    @Test func sendsInputUpToTheLimitAndTheRestWhenItGrows() {
        var machine = openedMachine()
        #expect(machine.on(.inputRead(100_000)) == [.sendInput(offset: 0, count: 65536)])
        #expect(
            machine.on(.inputAcknowledged(offset: 30_000, limit: 95_536))
                == [.forgetInput(before: 30_000), .sendInput(offset: 65536, count: 30_000)]
        )
        #expect(machine.inputRoom == (256 << 10) - 70_000)
    }

    @Test func sendsTheEndAfterTheLastInput() {
        var machine = openedMachine()
        #expect(machine.on(.inputRead(70_000)) == [.sendInput(offset: 0, count: 65536)])
        #expect(machine.on(.inputEnded) == [])
        #expect(
            machine.on(.inputAcknowledged(offset: 65536, limit: 131_072))
                == [.forgetInput(before: 65536), .sendInput(offset: 65536, count: 4464), .sendEnd(offset: 70_000)]
        )
        #expect(machine.inputRoom == 0)
    }

    @Test func sendsAgainWhatTheOtherSideHasNotGot() {
        var machine = openedMachine()
        _ = machine.on(.inputRead(1000))
        _ = machine.on(.inputEnded)
        _ = machine.on(.disconnected)
        _ = machine.on(.connected)
        #expect(
            machine.on(opened(received: 400))
                == [.forgetInput(before: 400), .sendInput(offset: 400, count: 600), .sendEnd(offset: 1000)]
        )
    }

    @Test func goesOnReadingWhenTheAcknowledgementOfAllInputWasLost() {
        var machine = openedMachine()
        _ = machine.on(.inputAcknowledged(offset: 0, limit: 256 << 10))
        _ = machine.on(.inputRead(256 << 10))
        #expect(machine.inputRoom == 0)
        _ = machine.on(.disconnected)
        _ = machine.on(.connected)
        #expect(machine.on(opened(received: 256 << 10, limit: 512 << 10)) == [.forgetInput(before: 256 << 10)])
        #expect(machine.inputRoom == 256 << 10)
        // The acknowledgement that comes later tells nothing new.
        #expect(machine.on(.inputAcknowledged(offset: 1000, limit: 512 << 10)) == [])
    }

    @Test func keepsInputReadWhileAway() {
        var machine = openedMachine()
        _ = machine.on(.disconnected)
        #expect(machine.on(.inputRead(10)) == [])
        _ = machine.on(.connected)
        #expect(machine.on(opened()) == [.sendInput(offset: 0, count: 10)])
    }

    @Test func repeatsAcknowledgementsSizesSignalsAndClosedOutputsAfterALoss() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 10))
        _ = machine.on(.written(.output, count: 10))
        _ = machine.on(.outputClosed(.error))
        #expect(machine.on(.signal(2)) == [.sendSignal(sequence: 1, number: 2)])
        #expect(machine.on(.signal(15)) == [.sendSignal(sequence: 2, number: 15)])
        _ = machine.on(.disconnected)
        let size = WindowSize(rows: 50, columns: 132)
        #expect(machine.on(.resized(size)) == [])
        #expect(machine.on(.connected) == [.sendResume(session: 5, output: 10, error: 0, size)])
        #expect(
            machine.on(opened(output: 10, lastSignal: 1))
                == [
                    .sendAcknowledge(.output, offset: 10), .sendClose(.error), .sendResize(size),
                    .sendSignal(sequence: 2, number: 15),
                ]
        )
        #expect(machine.on(.signalAcknowledged(2)) == [])
        _ = machine.on(.disconnected)
        _ = machine.on(.connected)
        #expect(!machine.on(opened(output: 10, lastSignal: 2)).contains(.sendSignal(sequence: 2, number: 15)))
    }

    @Test func finishesOnlyWhenAllOutputIsWritten() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 5))
        _ = machine.on(.ended(.output, offset: 5))
        _ = machine.on(.ended(.error, offset: 0))
        #expect(machine.on(.exited(.status(3))) == [])
        #expect(
            machine.on(.written(.output, count: 5))
                == [.sendAcknowledge(.output, offset: 5), .sendExitAcknowledge, .finish(.exited(.status(3)))]
        )
        #expect(machine.on(.disconnected) == [])
    }

    @Test func finishesWithoutAConnectionWhenEverythingHasArrived() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 5))
        _ = machine.on(.ended(.output, offset: 5))
        _ = machine.on(.ended(.error, offset: 0))
        _ = machine.on(.exited(.signal(9)))
        #expect(machine.on(.disconnected) == [])
        #expect(machine.on(.written(.output, count: 5)) == [.finish(.exited(.signal(9)))])
    }

    @Test func forgetsOutputThatNobodyReadsAndStillFinishes() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 5))
        #expect(machine.on(.outputClosed(.output)) == [.sendClose(.output), .sendAcknowledge(.output, offset: 5)])
        #expect(machine.on(.outputClosed(.output)) == [])
        #expect(machine.on(.data(.output, offset: 5, count: 5)) == [.sendAcknowledge(.output, offset: 10)])
        _ = machine.on(.ended(.output, offset: 77))
        _ = machine.on(.ended(.error, offset: 0))
        #expect(machine.on(.exited(.signal(13))).last == .finish(.exited(.signal(13))))
    }

    @Test func detachesByFrameWhenConnectedAndAtOnceWhenNot() {
        var machine = openedMachine()
        #expect(machine.on(.detach) == [.sendDetach])
        #expect(machine.on(.detach) == [])
        #expect(machine.on(.disconnected) == [.finish(.detached(session: 5))])
        var away = openedMachine()
        _ = away.on(.disconnected)
        #expect(away.on(.detach) == [.finish(.detached(session: 5))])
        var slow = openedMachine()
        _ = slow.on(.detach)
        #expect(slow.on(.giveUp) == [.finish(.detached(session: 5))])
    }

    @Test func attachesInTheMiddleOfTheStreams() {
        var machine = SessionClientStateMachine()
        _ = machine.on(.connected)
        #expect(
            machine.on(opened(received: 500, limit: 900, output: 4000, dropped: 1000))
                == [.reportDropped(1000), .sendAcknowledge(.output, offset: 4000)]
        )
        #expect(machine.on(.inputRead(4)) == [.sendInput(offset: 500, count: 4)])
        #expect(machine.on(.data(.output, offset: 4000, count: 1)) == [.deliver(.output, skip: 0, count: 1)])
    }

    @Test func goesOnAfterOutputWasDroppedDuringAnAbsence() {
        var machine = openedMachine()
        _ = machine.on(.data(.output, offset: 0, count: 10))
        _ = machine.on(.disconnected)
        _ = machine.on(.connected)
        #expect(machine.on(opened(output: 50, dropped: 40)).first == .reportDropped(40))
        // The ten bytes are still being written locally.
        #expect(machine.on(.data(.output, offset: 50, count: 1)) == [.deliver(.output, skip: 0, count: 1)])
        #expect(machine.on(.written(.output, count: 11)) == [.sendAcknowledge(.output, offset: 51)])
    }

    @Test func endsWhenTakenOverRefusedOrGivenUp() {
        var taken = openedMachine()
        #expect(taken.on(.taken) == [.finish(.taken(session: 5))])
        var late = openedMachine()
        #expect(late.on(.refused(.taken, message: "")) == [.finish(.taken(session: 5))])
        var refused = openedMachine()
        #expect(refused.on(.refused(.tooMany, message: "m")) == [.finish(.refused(.tooMany, message: "m"))])
        var abandoned = openedMachine()
        #expect(abandoned.on(.giveUp) == [.finish(.gaveUp)])
        #expect(abandoned.outcome == .gaveUp)
    }

    @Test func refusesASessionThatHasInputItNeverSent() {
        var machine = openedMachine()
        _ = machine.on(.disconnected)
        _ = machine.on(.connected)
        guard case .finish(.refused(.breach, _)) = machine.on(opened(received: 1)).first else {
            Issue.record("the session was accepted")
            return
        }
    }

    @Test func numbersSignalsFromWhatTheSessionHasSeen() {
        var machine = SessionClientStateMachine()
        #expect(machine.on(.signal(1)) == [])
        _ = machine.on(.connected)
        #expect(machine.on(opened(lastSignal: 9)) == [.sendSignal(sequence: 10, number: 1)])
        #expect(machine.on(.signal(2)) == [.sendSignal(sequence: 11, number: 2)])
    }
}
