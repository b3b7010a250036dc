import Foundation
import Testing

@testable import Orchestrator

@Suite struct SamplesTests {
    @Test func theMedianIsTheMiddleValueWhateverTheOrder() {
        #expect(Samples([9, 1, 5]).median == 5)
        #expect(Samples([4]).median == 4)
    }

    @Test func theMedianOfAnEvenNumberIsTheMeanOfTheMiddleTwo() {
        #expect(Samples([10, 1, 3, 2]).median == 2.5)
    }

    @Test func withoutValuesThereAreNoFigures() {
        let none = Samples()
        #expect(none.median == nil)
        #expect(none.p99 == nil)
        #expect(none.least == nil)
        #expect(none.most == nil)
        #expect(none.quantile(0.5) == nil)
    }

    @Test func p99IsGivenFromOneHundredValuesOn() {
        let hundred = Samples((1...100).shuffled().map(Double.init))
        #expect(hundred.p99 == 99)
        #expect(Samples((1...99).map(Double.init)).p99 == nil)
        #expect(Samples((1...1000).shuffled().map(Double.init)).p99 == 990)
    }

    @Test func aQuantileIsAlwaysAMeasuredValue() {
        let samples = Samples([1, 2, 3, 4])
        #expect(samples.quantile(0) == 1)
        #expect(samples.quantile(0.5) == 2)
        #expect(samples.quantile(0.51) == 3)
        #expect(samples.quantile(1) == 4)
    }

    @Test func whatWasNotMeasuredIsNotCounted() throws {
        var samples = Samples()
        samples.add(nil)
        samples.add(2)
        samples.add(6.0 as Double?)
        #expect(samples.values == [2, 6])
        let json = try JSONSerialization.jsonObject(with: JSONEncoder().encode(samples)) as? [String: Any]
        #expect(json?["runs"] as? Int == 2)
        #expect(json?["median"] as? Double == 4)
        #expect(json?["p99"] is NSNull)
    }
}
