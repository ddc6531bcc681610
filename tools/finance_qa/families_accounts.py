"""Families of calculations on statements, ratios, accounting and tax."""

from .calculation import Calculation, decimal_of, family, money


@family("ratios", 1)
def current_ratio(r):
    liabilities = r.randrange(20, 400) * 1000
    assets = int(liabilities * r.uniform(0.7, 3) / 1000) * 1000
    c = Calculation("current ratio = current assets / current liabilities")
    c.step("ratio", f"{assets} / {liabilities}")
    return [f"A company has current assets of {money(assets)} and current liabilities of {money(liabilities)}. What is its "
            "current ratio?",
            f"What is the current ratio of a retailer with current assets of {money(assets)} and current liabilities of "
            f"{money(liabilities)}?",
            f"Current liabilities are {money(liabilities)} and current assets are {money(assets)}. What is the current ratio?"], c


@family("ratios", 2)
def quick_ratio(r):
    assets = r.randrange(60, 500) * 1000
    inventory, liabilities = int(assets * r.uniform(0.1, 0.5) / 1000) * 1000, int(assets * r.uniform(0.4, 0.9) / 1000) * 1000
    c = Calculation("quick ratio = (current assets - inventory) / current liabilities")
    c.step("ratio", f"({assets} - {inventory}) / {liabilities}")
    return [f"A company has current assets of {money(assets)}, inventory of {money(inventory)} and current liabilities of "
            f"{money(liabilities)}. What is its quick ratio?",
            f"What is the quick ratio if current assets are {money(assets)}, of which {money(inventory)} is inventory, and current "
            f"liabilities are {money(liabilities)}?"], c


@family("ratios", 1)
def debt_to_equity(r):
    debt, equity = r.randrange(50, 900) * 1000, r.randrange(100, 900) * 1000
    c = Calculation("debt-to-equity ratio = total debt / shareholders' equity")
    c.step("ratio", f"{debt} / {equity}")
    return [f"What is the debt-to-equity ratio of a company with debt of {money(debt)} and equity of {money(equity)}?",
            f"A manufacturer owes {money(debt)} and has shareholders' equity of {money(equity)}. What is its debt-to-equity "
            "ratio?"], c


@family("ratios", 2)
def gross_margin(r):
    revenue = r.randrange(50, 900) * 1000
    cost = int(revenue * r.uniform(0.35, 0.85) / 1000) * 1000
    c = Calculation("gross margin = (revenue - cost of goods sold) / revenue × 100")
    profit = c.step("gross profit", f"{revenue} - {cost}", 0)
    c.step("gross margin", f"{profit} / {revenue} * 100", 2, "%")
    return [f"A retailer has revenue of {money(revenue)} and cost of goods sold of {money(cost)}. What is its gross margin?",
            f"Goods that cost {money(cost)} are sold for {money(revenue)}. What is the gross margin in percent?",
            f"What is the gross margin on revenue of {money(revenue)} with a cost of goods sold of {money(cost)}?"], c


@family("ratios", 1)
def return_on_equity(r):
    income, equity = r.randrange(10, 120) * 1000, r.randrange(200, 900) * 1000
    c = Calculation("return on equity = net income / shareholders' equity × 100")
    c.step("return", f"{income} / {equity} * 100", 2, "%")
    return [f"What is the return on equity of a company with net income of {money(income)} and equity of {money(equity)}?",
            f"A company earns {money(income)} after tax on shareholders' equity of {money(equity)}. What is its return on "
            "equity?"], c


@family("ratios", 4)
def dupont(r):
    revenue = r.randrange(200, 900) * 1000
    income, assets = int(revenue * r.uniform(0.03, 0.14) / 1000) * 1000, int(revenue * r.uniform(0.6, 1.6) / 1000) * 1000
    equity = int(assets * r.uniform(0.35, 0.7) / 1000) * 1000
    c = Calculation("return on equity = net margin × asset turnover × equity multiplier")
    margin = c.step("net margin", f"{income} / {revenue}", 4)
    turnover = c.step("asset turnover", f"{revenue} / {assets}", 4)
    multiplier = c.step("equity multiplier", f"{assets} / {equity}", 4)
    c.step("return on equity", f"{margin} * {turnover} * {multiplier} * 100", 2, "%")
    return [f"Revenue is {money(revenue)}, net income {money(income)}, total assets {money(assets)} and equity {money(equity)}. "
            "What is the return on equity by the DuPont formula?",
            f"Use the DuPont formula for a company with net income of {money(income)}, revenue of {money(revenue)}, assets of "
            f"{money(assets)} and equity of {money(equity)}. What is its return on equity?"], c


@family("ratios", 3)
def inventory_days(r):
    opening, closing = r.randrange(20, 90) * 1000, r.randrange(20, 90) * 1000
    cost = r.randrange(200, 800) * 1000
    c = Calculation("inventory days = 365 / (cost of goods sold / average inventory)")
    average = c.step("average inventory", f"({opening} + {closing}) / 2")
    turnover = c.step("inventory turnover", f"{cost} / {average}")
    c.step("inventory days", f"365 / {turnover}", 1)
    return [f"Cost of goods sold is {money(cost)}, opening inventory {money(opening)} and closing inventory {money(closing)}. How "
            "many days is inventory held in a year of 365 days?",
            f"A wholesaler starts the year with inventory of {money(opening)}, ends it with {money(closing)} and has a cost of "
            f"goods sold of {money(cost)}. What are its inventory days in a year of 365 days?"], c


@family("ratios", 2)
def receivable_days(r):
    receivables, sales = r.randrange(20, 150) * 1000, r.randrange(300, 1500) * 1000
    c = Calculation("days sales outstanding = receivables / credit sales × 365")
    c.step("days", f"{receivables} / {sales} * 365", 1)
    return [f"Receivables are {money(receivables)} and yearly credit sales are {money(sales)}. How many days sales are "
            "outstanding in a year of 365 days?",
            f"What is the days sales outstanding of a firm with receivables of {money(receivables)} and annual credit sales of "
            f"{money(sales)}, at 365 days a year?"], c


@family("ratios", 1)
def interest_coverage(r):
    interest = r.randrange(5, 80) * 1000
    profit = int(interest * r.uniform(1.2, 9) / 1000) * 1000
    c = Calculation("interest coverage ratio = operating profit / interest expense")
    c.step("ratio", f"{profit} / {interest}")
    return [f"What is the interest coverage ratio if operating profit is {money(profit)} and interest expense is "
            f"{money(interest)}?",
            f"A hotel earns an operating profit of {money(profit)} and pays interest of {money(interest)}. What is its interest "
            "coverage ratio?"], c


@family("statements", 1)
def working_capital(r):
    assets, liabilities = r.randrange(40, 400) * 1000, r.randrange(30, 380) * 1000
    c = Calculation("working capital = current assets - current liabilities")
    c.step("working capital", f"{assets} - {liabilities}", 0)
    return [f"What is the working capital of a company with current assets of {money(assets)} and current liabilities of "
            f"{money(liabilities)}?",
            f"A bakery has current assets of {money(assets)} and owes {money(liabilities)} within a year. What is its working "
            "capital?"], c


@family("statements", 3)
def net_income(r):
    revenue = r.randrange(200, 900) * 1000
    cost, operating = int(revenue * 0.55 / 1000) * 1000 + r.randrange(9) * 1000, int(revenue * 0.2 / 1000) * 1000
    interest, tax = r.randrange(2, 20) * 1000, r.choice([20, 21, 25, 30])
    c = Calculation("net income = (revenue - cost of goods sold - operating expenses - interest) × (1 - tax rate)")
    before = c.step("profit before tax", f"{revenue} - {cost} - {operating} - {interest}", 0)
    charge = c.step("tax", f"{before} * {decimal_of(tax)}", 0)
    c.step("net income", f"{before} - {charge}", 0)
    return [f"Revenue is {money(revenue)}, cost of goods sold {money(cost)}, operating expenses {money(operating)}, interest "
            f"{money(interest)} and the tax rate {tax}%. What is net income?",
            f"What is the net income of a company with revenue of {money(revenue)}, cost of goods sold of {money(cost)}, operating "
            f"expenses of {money(operating)}, interest of {money(interest)} and a tax rate of {tax}%?"], c


@family("statements", 4)
def operating_cash_flow(r):
    income, depreciation = r.randrange(40, 300) * 1000, r.randrange(5, 60) * 1000
    receivables, inventory, payables = (r.randrange(2, 30) * 1000 for _ in range(3))
    capex = r.randrange(10, 90) * 1000
    c = Calculation("free cash flow = net income + depreciation - increase in receivables - increase in inventory + increase in "
                    "payables - capital expenditure")
    flow = c.step("operating cash flow", f"{income} + {depreciation} - {receivables} - {inventory} + {payables}", 0)
    c.step("free cash flow", f"{flow} - {capex}", 0)
    return [f"Net income is {money(income)}, depreciation {money(depreciation)}, receivables rose by {money(receivables)}, inventory "
            f"rose by {money(inventory)}, payables rose by {money(payables)} and capital expenditure was {money(capex)}. What is "
            "free cash flow?",
            f"A company reports net income of {money(income)} and depreciation of {money(depreciation)}. Receivables increased by "
            f"{money(receivables)}, inventory by {money(inventory)} and payables by {money(payables)}, and {money(capex)} was spent "
            "on equipment. What is its free cash flow?"], c


@family("accounting", 1)
def accounting_equation(r):
    assets = r.randrange(100, 900) * 1000
    liabilities = int(assets * r.uniform(0.2, 0.8) / 1000) * 1000
    c = Calculation("equity = assets - liabilities")
    c.step("equity", f"{assets} - {liabilities}", 0)
    return [f"Assets are {money(assets)} and liabilities are {money(liabilities)}. What is equity?",
            f"A company owns assets of {money(assets)} and owes {money(liabilities)}. How large is its equity?",
            f"What is the equity of a firm with total assets of {money(assets)} and total liabilities of {money(liabilities)}?"], c


@family("accounting", 2)
def straight_line_depreciation(r):
    life = r.choice([3, 4, 5, 6, 8, 10])
    residual = r.randrange(0, 12) * 500
    cost = residual + life * r.randrange(8, 60) * 125
    c = Calculation("annual depreciation = (cost - residual value) / useful life")
    c.step("depreciation", f"({cost} - {residual}) / {life}")
    return [f"A machine costs {money(cost)}, has a residual value of {money(residual)} and a useful life of {life} years. What is "
            "the annual straight-line depreciation?",
            f"What is the yearly straight-line depreciation of a van that costs {money(cost)}, lasts {life} years and is then worth "
            f"{money(residual)}?"], c


@family("accounting", 3)
def declining_balance(r):
    cost, rate, years = r.randrange(20, 200) * 500, r.choice([15, 20, 25, 30, 40]), r.randint(2, 6)
    c = Calculation("book value = cost × (1 - depreciation rate)^years")
    c.step("book value", f"{cost} * (1 - {decimal_of(rate)}) ** {years}")
    return [f"Equipment that costs {money(cost)} is depreciated by {rate}% of its book value each year. What is its book value "
            f"after {years} years?",
            f"What is the book value after {years} years of an asset bought for {money(cost)} under declining-balance depreciation "
            f"of {rate}% a year?"], c


@family("accounting", 2)
def break_even(r):
    price, variable = r.randrange(20, 90), r.randrange(5, 18)
    fixed = (price - variable) * r.randrange(200, 2000)
    c = Calculation("break-even quantity = fixed costs / (price - variable cost per unit)")
    margin = c.step("contribution per unit", f"{price} - {variable}", 0)
    c.step("break-even quantity", f"{fixed} / {margin}", 0)
    return [f"Fixed costs are {money(fixed)}, the price is {money(price)} and the variable cost is {money(variable)} per unit. How "
            "many units must be sold to break even?",
            f"A workshop sells a product for {money(price)} with a variable cost of {money(variable)} and has fixed costs of "
            f"{money(fixed)}. What is the break-even quantity?"], c


@family("accounting", 3)
def target_profit(r):
    price, variable, target = r.randrange(25, 90), r.randrange(6, 20), r.randrange(5, 40) * 1000
    units = r.randrange(900, 4000)
    fixed = (price - variable) * units - target
    while fixed <= 0:
        units += 1000
        fixed = (price - variable) * units - target
    c = Calculation("quantity = (fixed costs + target profit) / (price - variable cost per unit)")
    margin = c.step("contribution per unit", f"{price} - {variable}", 0)
    c.step("quantity", f"({fixed} + {target}) / {margin}", 0)
    return [f"Fixed costs are {money(fixed)}, the price is {money(price)} and the variable cost {money(variable)} per unit. How many "
            f"units give a profit of {money(target)}?",
            f"How many units must a firm sell at {money(price)} to earn {money(target)} if each costs {money(variable)} to make and "
            f"fixed costs are {money(fixed)}?"], c


@family("accounting", 2)
def fifo_cost(r):
    first, one, second, two = r.randrange(5, 30) * 10, r.randrange(4, 15), r.randrange(10, 40) * 10, r.randrange(15, 25)
    sold = first + r.randrange(2, second // 10) * 10
    c = Calculation("cost of goods sold = older units × older cost + newer units × newer cost")
    rest = c.step("newer units sold", f"{sold} - {first}", 0)
    c.step("cost of goods sold", f"{first} * {one} + {rest} * {two}", 0)
    return [f"A shop buys {first} units at {money(one)} and later {second} units at {money(two)}, then sells {sold} units. What is "
            "the cost of goods sold under first-in, first-out?",
            f"Inventory holds {first} older units at {money(one)} each and {second} newer units at {money(two)} each. What is the "
            f"first-in, first-out cost of selling {sold} units?"], c


@family("tax", 2)
def add_vat(r):
    net, rate = r.randrange(20, 900) * 5, r.choice([5, 7, 10, 19, 20, 21, 25])
    c = Calculation("gross price = net price × (1 + tax rate)")
    c.step("gross price", f"{net} * (1 + {decimal_of(rate)})")
    return [f"A net price is {money(net)} and value added tax is {rate}%. What is the gross price?",
            f"What does a customer pay for goods with a net price of {money(net)} if value added tax is {rate}%?",
            f"Add {rate}% value added tax to a net price of {money(net)}. What is the result?"], c


@family("tax", 3)
def remove_vat(r):
    gross, rate = r.randrange(20, 900) * 6, r.choice([5, 7, 10, 19, 20, 21, 25])
    c = Calculation("tax included = gross price - gross price / (1 + tax rate)")
    net = c.step("net price", f"{gross} / (1 + {decimal_of(rate)})")
    c.step("tax included", f"{gross} - {net}")
    return [f"A gross price of {money(gross)} includes {rate}% value added tax. How much tax does it include?",
            f"How much value added tax is contained in a bill of {money(gross)} if the rate is {rate}%?"], c


@family("tax", 4)
def progressive_tax(r):
    low, high = r.choice([10000, 12000, 15000]), r.choice([30000, 40000, 50000])
    income = high + r.randrange(4, 60) * 500
    a, b, d = r.choice([5, 10]), r.choice([15, 20]), r.choice([30, 35, 40])
    c = Calculation("total tax = sum of (income in bracket × rate of bracket)")
    one = c.step("tax in the first bracket", f"{low} * {decimal_of(a)}")
    two = c.step("tax in the second bracket", f"({high} - {low}) * {decimal_of(b)}")
    three = c.step("tax in the third bracket", f"({income} - {high}) * {decimal_of(d)}")
    c.step("total tax", f"{one} + {two} + {three}")
    return [f"Income up to {money(low)} is taxed at {a}%, from there up to {money(high)} at {b}% and above that at {d}%. What is the "
            f"tax on {money(income)}?",
            f"A tax system takes {a}% of the first {money(low)}, {b}% of the next part up to {money(high)} and {d}% of the rest. How "
            f"much tax is due on an income of {money(income)}?"], c


@family("tax", 2)
def tax_shield(r):
    interest, rate = r.randrange(10, 200) * 500, r.choice([15, 20, 21, 25, 28, 30])
    c = Calculation("tax shield = interest expense × tax rate")
    c.step("tax shield", f"{interest} * {decimal_of(rate)}")
    return [f"What is the tax shield of an interest expense of {money(interest)} at a tax rate of {rate}%?",
            f"A company pays deductible interest of {money(interest)} and is taxed at {rate}%. How much tax does the interest save?"], c
